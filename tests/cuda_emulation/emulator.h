// A GPU of fibers: every thread of every block of a launch is one, all of them resident, on one
// thread of the operating system. It runs the kernels of csrc/cuda/*.cuh as they stand and says
// where they wait for ever, wait at different barriers, or, under ThreadSanitizer, read what nobody
// has made visible. For tests.
//
// Fibers change only where threads of a GPU wait for each other: at barriers, where the lanes of a
// warp work together, and in spins. Which of those that can go on goes on next is the schedule's
// choice.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace fastrnn {
namespace emulation {

enum class Schedule { kForward, kReverse, kRandom };
void use_schedule(Schedule schedule, uint64_t seed);

// Takes the primitive of this name away from the launches that follow; "" brings it back.
void remove(const std::string& primitive);
// The names of all of them that were executed so far; what the lanes of a warp do together orders
// no memory.
std::vector<std::string> executed();

// Of the arrivals and flagged stores that follow, the one after so many does not take place, as if
// its block never came.
void lose_arrival(int after);

// A thread has ended the launch.
struct Trapped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs `kernel` on each thread; throws std::runtime_error where the launch cannot end or threads of
// a block part ways, Trapped where a thread ends it. Shared memory starts as NaNs. Blocks that
// follow each other are clusters of so many.
void launch(const std::function<void()>& kernel, int blocks, int threads, int64_t shared_bytes,
            int cluster_blocks = 1);

// ---- what gpu_emulated.h calls, on a fiber ------------------------------------------------------

struct ThreadContext {
  int thread, threads, block, blocks, cluster_blocks;
  char* shared;
};
const ThreadContext& this_thread();
void sync_block(const char* name);
void sync_cluster(const char* name);
// The same place in the shared memory of a block of the cluster, which must have begun and not
// ended; if not, the launch ends with an error.
void* in_cluster(void* own, int rank);
// Tells the other lanes of the warp something: all lanes come here, and receive what each has told,
// by lane, to be read before the lane comes here again. Orders no memory.
constexpr size_t kMessageBytes = 24;
const void* exchange(const void* message, size_t bytes, const char* name);
template <class M> const M* exchange(const M& message, const char* name) {
  static_assert(sizeof(M) <= kMessageBytes, "a message is that of tensor cores at most");
  return static_cast<const M*>(exchange(&message, sizeof message, name));
}
// Whether a row that a lane gives to load_matrices is one; if not, the launch ends with an error.
void check_row(const void* row, const char* name);
// Whether a store that others poll for is one, or a test has taken it away.
bool takes_place(const char* name);
// Whether a load that polls is ordered, or a test has taken that away.
bool looks_in_order(const char* name);
// Whether an arrival at this word takes place; releases unless a test has taken that away.
bool arrives(void* word, const char* name);
void acquire(const void* word);
void arrive(unsigned* counter, const char* name);
unsigned load_acquire(const unsigned* counter, const char* name);
void pause();
void trap();

}  // namespace emulation
}  // namespace fastrnn
