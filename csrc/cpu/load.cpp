#include "load.h"

#include <time.h>

#include <algorithm>
#include <atomic>

namespace fastrnn {

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

namespace load {

namespace {

// Each is right by itself; calls that mix an old one with a new one are held back a little more or
// less than they should be.
std::atomic<int64_t> until{0}, pause{0};
std::atomic<int> most{1};

}  // namespace

int64_t retry_at() {
  const int64_t end = until.load(std::memory_order_relaxed);
  return end != 0 && now_ns() < end ? end : 0;
}

int allowed(int members) {
  return retry_at() == 0 ? members : std::min(members, most.load(std::memory_order_relaxed));
}

void report(int members, int late) {
  const int64_t now = now_ns(), end = until.load(std::memory_order_relaxed);
  const int left = std::max(1, members - late);
  if (now < end) {  // of the same pause
    most.store(std::min(left, most.load(std::memory_order_relaxed)), std::memory_order_relaxed);
    return;
  }
  const int64_t last = pause.load(std::memory_order_relaxed);
  const bool went_well = now - end > 4 * last;
  const int64_t next = went_well ? kShortest : std::min(4 * last, kLongest);
  most.store(left, std::memory_order_relaxed);
  pause.store(next, std::memory_order_relaxed);
  until.store(now + next, std::memory_order_relaxed);
}

bool seen() { return pause.load(std::memory_order_relaxed) != 0; }

void reset() { until = 0, pause = 0, most = 1; }

}  // namespace load
}  // namespace fastrnn
