// What tests ask of the emulated device's graphs.
#pragma once

namespace fastrnn {
namespace emulation {

// Whether nothing can be recorded, as while the caller's stream is captured.
void refuse_recording(bool refuse);

// Whether replays wait, as at a full queue. They fail after some seconds of that.
void hold_replays(bool hold);

// Graphs that were replayed so far, each time counted.
int replays();

}  // namespace emulation
}  // namespace fastrnn
