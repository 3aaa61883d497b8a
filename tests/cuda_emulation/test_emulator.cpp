// That the emulator finds what it is there to find: kernels with one mistake each.
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(FASTRNN_ASAN)
#include <sanitizer/asan_interface.h>
#endif

#include "emulator.h"

namespace {

using namespace fastrnn::emulation;

int failures = 0;

// Runs a kernel in every schedule; the report must begin with `wanted`, "" being none.
template <class K> void expect(const char* what, const std::string& wanted, K kernel) {
  for (const Schedule schedule : {Schedule::kForward, Schedule::kReverse, Schedule::kRandom}) {
    use_schedule(schedule, 7);
    std::string got;
    try {
      launch(kernel, 3, 64, 1024);
    } catch (const std::runtime_error& e) {
      got = e.what();
    }
    if (got.rfind(wanted, 0) == 0 && got.empty() == wanted.empty()) continue;
    std::printf("FAILED: %s: wanted '%s', got '%s'\n", what, wanted.c_str(), got.c_str());
    ++failures;
  }
}

// What AddressSanitizer knows of a launch's frames must go with the launch: the next one with more
// threads gives the stacks back to the system, and whoever has that memory then would be told of
// overflows that are none.
void expect_clean_stacks() {
#if defined(FASTRNN_ASAN)
  constexpr size_t kBytes = 4096;
  char* frame = nullptr;
  use_schedule(Schedule::kForward, 7);
  launch(
      [&] {
        char local[64];
        if (this_thread().block == 0 && this_thread().thread == 0) frame = local;
        sync_block("all");
      },
      2, 64, 16);
  if (__asan_region_is_poisoned(frame - kBytes, 2 * kBytes) == nullptr) return;
  std::printf("FAILED: frames of a launch are kept\n");
  ++failures;
#endif
}

}  // namespace

int main() {
  unsigned counter = 0;
  int late = 0;
  expect("barriers", "", [&] {
    sync_block("one");
    sync_block("two");
  });
  expect("a barrier of blocks", "", [&] {
    arrive(&counter, "arrive");
    while (load_acquire(&counter, "load_acquire") % (3 * 64) != 0) pause();
  });
  expect("a thread that leaves", "a thread has ended while others of its block wait at", [&] {
    if (this_thread().thread != 5) sync_block("all");
  });
  expect("two barriers", "threads of one block wait at",
         [&] { sync_block(this_thread().thread < 32 ? "here" : "there"); });
  expect("a counter that nobody raises", "no thread can go on; they wait at: never", [&] {
    unsigned zero = 0;
    while (load_acquire(&zero, "never") == 0) pause();
  });
  expect("a thread that ends the launch", "a thread has trapped", [&] {
    if (this_thread().thread == 5) trap();
    sync_block("all");
  });
  expect("an arrival that is lost", "no thread can go on; they wait at: load_acquire, the end",
         [&] {
           if (this_thread().thread != 5) return;
           lose_arrival(1);
           unsigned own = 0;
           arrive(&own, "arrive");
           arrive(&own, "arrive");
           while (load_acquire(&own, "load_acquire") < 2) pause();
         });
  expect("shared memory that nobody wrote", "", [&] {
    float value;
    std::memcpy(&value, this_thread().shared, sizeof value);
    if (value == value) ++late;
  });
  expect("shuffles", "", [&] {
    const int lane = this_thread().thread % 32;
    for (int mask = 16; mask > 0; mask /= 2)
      if (shuffle_xor(float(lane), mask, "shuffle") != float(lane ^ mask)) ++late;
  });
  expect_clean_stacks();
  if (late) {
    std::printf("FAILED: %d values of shared memory or of shuffles are wrong\n", late);
    ++failures;
  }
  return failures ? 1 : 0;
}
