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

// Atomic one by one, not together: a call that reads an old one with a new one gets a team that is
// a little smaller or larger than it should be.
std::atomic<int64_t> until{0}, pause{0};
std::atomic<int64_t> worked{0};  // by full teams since the end of the last pause
std::atomic<int> max_members{1};

}  // namespace

int64_t retry_at() {
  const int64_t end = until.load(std::memory_order_relaxed);
  return end != 0 && now_ns() < end ? end : 0;
}

int allowed(int members) {
  return retry_at() == 0 ? members : std::min(members, max_members.load(std::memory_order_relaxed));
}

void record_work(int64_t start) {
  const int64_t end = until.load(std::memory_order_relaxed), now = now_ns();
  if (end != 0 && now > end)
    worked.fetch_add(now - std::max(start, end), std::memory_order_relaxed);
}

void record_late(int members, int late, int64_t start) {
  const int64_t now = now_ns(), end = until.load(std::memory_order_relaxed);
  const int left = std::max(1, members - late);
  if (now < end) {  // of the same pause
    max_members.store(std::min(left, max_members.load(std::memory_order_relaxed)),
                      std::memory_order_relaxed);
    return;
  }
  record_work(start);
  const bool worthwhile = worked.exchange(0, std::memory_order_relaxed) > kWorthwhile;
  const int64_t last = worthwhile ? 0 : pause.load(std::memory_order_relaxed);
  const int64_t next = std::clamp(4 * last, kMinPause, kMaxPause);
  max_members.store(left, std::memory_order_relaxed);
  pause.store(next, std::memory_order_relaxed);
  until.store(now + next, std::memory_order_relaxed);
}

bool seen() { return pause.load(std::memory_order_relaxed) != 0; }

void reset() { until = 0, pause = 0, worked = 0, max_members = 1; }

}  // namespace load
}  // namespace fastrnn
