#include "thread_count.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>

#include "load.h"
#include "processors.h"

#if !defined(FASTRNN_TEAM_STD_THREAD)
#include <omp.h>
#endif

namespace fastrnn {

namespace {

std::atomic<int> num_threads{0};  // 0: not set
std::atomic<bool> forked{false};
std::atomic<int> at_work{0};         // members of all teams
thread_local int limit_of_call = 0;  // 0: none

bool in_child_of_fork() {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
  return registered != 0 || forked.load(std::memory_order_relaxed);
}

int openmp_threads() {
#if defined(FASTRNN_TEAM_STD_THREAD)
  return processors();
#else
  return omp_get_max_threads();
#endif
}

bool in_parallel_region() {
#if defined(FASTRNN_TEAM_STD_THREAD)
  return false;
#else
  return omp_in_parallel() != 0;
#endif
}

// The rules of available_threads(), in their order; tell(why) is called by each that limits.
template <class Tell> int count_available(Tell tell) {
  if (in_child_of_fork()) return tell("a child of fork()"), 1;
  if (in_parallel_region()) return tell("inside a parallel region of the caller's"), 1;
  int n = limit_of_call > 0 ? limit_of_call : get_num_threads();
  const auto at_most = [&](int limit, const char* why) {
    if (limit < n) n = std::max(1, limit), tell(why);
  };
  if (n == 1) return n;
  at_most(processors(), "processors: the affinity mask, or a control group's quota");
  at_most(processors() - at_work.load(std::memory_order_relaxed), "calls of other threads");
  if (!pretending()) at_most(load::allowed(n), "a busy machine: members of a team were late");
  return n;
}

}  // namespace

TeamLimit::TeamLimit(int n) : before_(limit_of_call) {
  if (n > 0) limit_of_call = n;
}
TeamLimit::~TeamLimit() { limit_of_call = before_; }

Lease::Lease(int members) : members_(members) {
  if (members == 0) return;
  const int others = at_work.fetch_add(members, std::memory_order_relaxed);
  const int left = std::max(1, processors() - others);
  if (members_ <= left || members_ == 1) return;
  at_work.fetch_sub(members_ - left, std::memory_order_relaxed);
  members_ = left;
}
Lease::~Lease() {
  if (members_ > 0) at_work.fetch_sub(members_, std::memory_order_relaxed);
}

Lease lease_for_reading(int64_t bytes) {
  constexpr int64_t kBytesOfAMember = int64_t{1} << 19;  // fewer are not worth waking one for
  const int64_t wanted = bytes / kBytesOfAMember;
  return Lease(wanted > 1 ? static_cast<int>(std::min<int64_t>(available_threads(), wanted)) : 0);
}

void set_num_threads(int n) { num_threads = n; }

int get_num_threads() {
  if (in_child_of_fork()) return 1;
  const int n = num_threads;
  return n > 0 ? n : std::min(openmp_threads(), processors());
}

int available_threads() {
  return count_available([](const char*) {});
}

Available available() {
  Available result{1, num_threads > 0 ? "set_num_threads" : "the default"};
  result.threads = count_available([&](const char* why) { result.why = why; });
  return result;
}

}  // namespace fastrnn
