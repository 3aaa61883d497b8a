// The streams of the emulated device. What comes to a stream runs in its order, but only when
// somebody waits for it; whose turn it is among several streams, a test chooses. So work that reads
// what is gone by then, or what another stream makes without an order between the two, gives wrong
// numbers. While nothing is queued, work runs as it comes. For one thread at a time.
#pragma once

#include <stdint.h>

#include <functional>

#include "emulator.h"

namespace fastrnn {
namespace emulation {

using Work = std::function<void()>;

// From now on work waits. Of the streams that can go on, that with the lowest number does, the
// highest, or one by chance.
void queue_work(Schedule order, uint64_t seed);
// From now on it runs as it comes; what still waits is dropped.
void run_at_once();

void enqueue(uintptr_t stream, Work work);
// An event: all that has come to a stream so far.
int record(uintptr_t stream);
// What comes to a stream from now on runs after an event.
void wait(uintptr_t stream, int event);

// Runs work, of whichever streams have their turn, until one stream, or all, have none left.
void synchronize(uintptr_t stream);
void synchronize_all();

}  // namespace emulation
}  // namespace fastrnn
