#include "team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "../core/error.h"
#include "float_state.h"
#include "load.h"

#if defined(FASTRNN_TEAM_STD_THREAD)
#include <thread>
#else
#include <omp.h>
#endif

namespace fastrnn {

namespace {

// ---- a job and the threads that run it ------------------------------------------------------

constexpr int kSpins = 2000;  // of a wait before it asks which thread is late: 40 to 100 us
// A thread that is off its core for so long has been descheduled: interrupts are shorter, and the
// time slices of a scheduler longer.
constexpr int64_t kAwayFor = 500'000;  // ns
constexpr int kTasksPerPoll = 16;

std::atomic<Poll> poll_of_calls{nullptr};
std::atomic<Hook> hook_of_tests{nullptr};

void at(TaskPoint point, int member, int part) {
  if (const Hook hook = hook_of_tests.load(std::memory_order_relaxed)) hook(point, member, part);
}

int64_t time_of(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// Does a thread's processor clock advance within some microseconds? On some systems it counts
// ticks.
bool clocks_tell() {
  clockid_t mine;
  pthread_getcpuclockid(pthread_self(), &mine);
  const int64_t before = time_of(mine), start = now_ns();
  while (now_ns() - start < kAwayFor / 10) arch::relax();
  return time_of(mine) != before;
}

// A part's progress in one atomic word: how many of its tasks are done, and what the next one
// needs.
struct Progress {
  static constexpr uint64_t kEnded = ~uint64_t{0};
  uint64_t word;
  static Progress of(uint64_t tasks, Need need) {
    return {need == Need::kEnd ? kEnded : tasks << 2 | static_cast<uint64_t>(need)};
  }
  bool ended() const { return word == kEnded; }
  uint64_t tasks() const { return word >> 2; }
  Need need() const { return static_cast<Need>(word & 3); }
};

enum class Owner : int {
  kComing,  // has not arrived yet: its thread may be starting
  kMissed,  // has not arrived, and others have begun to do its tasks
  kHere,
  kAway,  // was late, and sleeps until the pause is over
};

struct Part {
  // Written by the thread that does its tasks alone, and hardly read by others.
  alignas(64) std::atomic<uint64_t> claimed{0};
  std::atomic<int> carrier{0};
  // What other parts wait for.
  alignas(64) std::atomic<uint64_t> done{0};
  std::atomic<Owner> owner{Owner::kComing};
  clockid_t clock = 0;  // processor time of the owner, once it is here
  // The owner's clock as the threads that wait for it last saw it, and since when it shows that
  // time.
  alignas(64) std::atomic<int64_t> seen_clock{-1};
  std::atomic<int64_t> seen_at{0};

  Progress progress() const { return {done.load(std::memory_order_acquire)}; }
};

class TeamRun {
 public:
  TeamRun(const Job& job, Part* parts)
      : job_(job), parts_(parts), state_(arch::float_settings()), start_(now_ns()) {
    parts_[0].owner = Owner::kHere;
    pthread_getcpuclockid(pthread_self(), &parts_[0].clock);
  }

  void work(int me);
  // The members from this number on have no thread.
  void mark_missing(int from) {
    for (int k = from; k < job_.parts; ++k) parts_[k].owner = Owner::kMissed;
  }
  // For the caller, when all members have left.
  void finish() const {
    load::record_work(start_);
    if (interrupted_) throw Interrupted();
  }

 private:
  void arrive(int me);
  void wait_for(int me, Progress at);
  void wait_for(int me, int begin, int end, uint64_t tasks);
  bool ready(int part, Progress at) const;
  bool try_next_task(int part, int me);
  void steal_or_watch(int me);
  void watch_clock(int member, int me);
  void mark_late(int member, int me);
  void dismiss_partner();
  void sleep_until_retry(int me);
  void poll();
  void end();
  bool ended() const { return ended_.load(std::memory_order_acquire) != 0; }
  bool is_away(int member) const {
    return parts_[member].owner.load(std::memory_order_relaxed) == Owner::kAway;
  }

  const Job& job_;
  Part* const parts_;
  const uint64_t state_;  // the caller's floating point state, under which all members compute
  const int64_t start_;
  int64_t polled_ = start_, checked_ = start_;  // of the calling thread, as the next two
  int until_poll_ = kTasksPerPoll;
  bool interrupted_ = false;
  alignas(64) std::atomic<uint32_t> ended_{0};  // members sleep on it
  std::atomic<int> resting_{0};
  alignas(64) std::atomic<int> parts_ended_{0};
  std::atomic<int> in_lockstep_{0};  // the member that leaves once the calling thread is back
};

void TeamRun::work(int me) {
  const FloatScope as_the_caller(state_);
  arrive(me);
  while (!ended()) {
    if (is_away(me)) {
      sleep_until_retry(me);
      continue;
    }
    if (me == 0) dismiss_partner();
    const Progress own = parts_[me].progress();
    if (own.ended()) {
      wait_for(me, 0, job_.parts, Progress{Progress::kEnded}.tasks());
      continue;
    }
    wait_for(me, own);
    at(TaskPoint::kReady, me, me);
    // Another may have taken it, while this thread was away.
    if (!try_next_task(me, me)) wait_for(me, me, me + 1, own.tasks() + 1);
    if (me == 0 && --until_poll_ == 0) poll();
  }
}

// A member that comes when all is done has kept the caller waiting, since a team ends together. One
// that comes earlier, however late, has cost nothing: others did its tasks, and it helps with the
// rest.
void TeamRun::arrive(int me) {
  at(TaskPoint::kArrived, me, me);
  if (me == 0) return;
  Part& own = parts_[me];
  pthread_getcpuclockid(pthread_self(), &own.clock);
  own.owner.store(Owner::kHere, std::memory_order_release);
  if (ended() && now_ns() - start_ > kAwayFor) load::record_late(job_.parts, 1, start_);
}

// Waits until the next task of this member's part can be done.
void TeamRun::wait_for(int me, Progress at) {
  const int first = me / job_.group * job_.group;
  if (at.need() == Need::kGroup) wait_for(me, first, first + job_.group, at.tasks());
  if (at.need() == Need::kTeam) wait_for(me, 0, job_.parts, at.tasks());
}

void TeamRun::wait_for(int me, int begin, int end, uint64_t tasks) {
  for (int k = begin; k < end; ++k)
    for (int spins = 0; parts_[k].progress().tasks() < tasks; ++spins) {
      if (ended() || is_away(me)) return;
      const Owner owner = parts_[k].owner.load(std::memory_order_relaxed);
      if ((owner == Owner::kMissed || owner == Owner::kAway) && try_next_task(k, me)) {
        spins = 0;
      } else if (spins < kSpins) {
        arch::relax();
      } else {
        steal_or_watch(me);
        sched_yield();
      }
    }
}

bool TeamRun::ready(int part, Progress at) const {
  const int first = part / job_.group * job_.group;
  int begin = 0, end = 0;
  if (at.need() == Need::kGroup) begin = first, end = first + job_.group;
  if (at.need() == Need::kTeam) end = job_.parts;
  for (int k = begin; k < end; ++k)
    if (parts_[k].progress().tasks() < at.tasks()) return false;
  return true;
}

// Does the next task of a part if it can be done and no thread has claimed it.
bool TeamRun::try_next_task(int k, int me) {
  Part& part = parts_[k];
  const Progress from = part.progress();
  uint64_t tasks = from.tasks();
  if (from.ended() || !ready(k, from) ||
      !part.claimed.compare_exchange_strong(tasks, tasks + 1, std::memory_order_acq_rel))
    return false;
  part.carrier.store(me, std::memory_order_relaxed);
  at(TaskPoint::kClaimed, me, k);
  const Need need = job_.task(job_.context, k);
  at(TaskPoint::kDone, me, k);
  part.done.store(Progress::of(from.tasks() + 1, need).word, std::memory_order_release);
  if (need == Need::kEnd && parts_ended_.fetch_add(1, std::memory_order_acq_rel) + 1 == job_.parts)
    end();
  return true;
}

// A thread is late: steals a task that can be done in its place, or finds out which thread it is
// and watches its clock.
void TeamRun::steal_or_watch(int me) {
  int busy = me;
  for (int k = 0; k < job_.parts && !ended(); ++k) {
    Part& part = parts_[k];
    const Progress at = part.progress();
    if (at.ended()) continue;
    if (part.claimed.load(std::memory_order_relaxed) != at.tasks()) {
      if (busy == me) busy = part.carrier.load(std::memory_order_relaxed);
    } else if (try_next_task(k, me)) {
      Owner coming = Owner::kComing;
      part.owner.compare_exchange_strong(coming, Owner::kMissed);
      return watch_clock(k, me);
    }
  }
  watch_clock(busy, me);
}

// Is the thread that the others wait for on a core? Its processor clock tells, and not the time of
// the wait, since a task may simply be long.
void TeamRun::watch_clock(int member, int me) {
  Part& part = parts_[member];
  if (member == me || part.owner.load(std::memory_order_acquire) != Owner::kHere) return;
  static const bool told = clocks_tell();
  const int64_t clock = time_of(part.clock), now = now_ns();
  if (part.seen_clock.load(std::memory_order_acquire) != clock) {
    part.seen_at.store(now, std::memory_order_relaxed);
    part.seen_clock.store(clock, std::memory_order_release);
  } else if (told && now - part.seen_at.load(std::memory_order_relaxed) > kAwayFor) {
    mark_late(member, me);
  }
}

// A late member leaves the team after its task, for a pause. The calling thread cannot leave: where
// that is late, another member leaves in its place once it is back.
void TeamRun::mark_late(int member, int me) {
  Owner here = Owner::kHere;
  int none = 0;
  if (member == 0 ? in_lockstep_.compare_exchange_strong(none, me)
                  : parts_[member].owner.compare_exchange_strong(here, Owner::kAway))
    load::record_late(job_.parts, 1, start_);
}

void TeamRun::dismiss_partner() {
  if (in_lockstep_.load(std::memory_order_relaxed) == 0) return;
  const int member = in_lockstep_.exchange(0);
  Owner here = Owner::kHere;
  parts_[member].owner.compare_exchange_strong(here, Owner::kAway);
}

// Sleeps until the pause or the job is over.
void TeamRun::sleep_until_retry(int me) {
  resting_.fetch_add(1);
  for (int64_t until; !ended_.load() && (until = load::retry_at()) != 0;) {
    const int64_t left = std::max<int64_t>(1, until - now_ns());
    const timespec wait{static_cast<time_t>(left / 1'000'000'000),
                        static_cast<long>(left % 1'000'000'000)};
    syscall(SYS_futex, &ended_, FUTEX_WAIT_PRIVATE, 0, &wait, nullptr, 0);
  }
  resting_.fetch_sub(1);
  parts_[me].owner.store(Owner::kHere, std::memory_order_release);
}

void TeamRun::poll() {
  const int64_t now = now_ns();
  // To read the clock after each step would cost time that shows; after each chunk it does not.
  until_poll_ = now - checked_ > kPollAfter / 10 ? 1 : kTasksPerPoll;
  checked_ = now;
  if (now - polled_ < kPollAfter) return;
  polled_ = now;
  const Poll poll = poll_of_calls.load(std::memory_order_relaxed);
  if (!poll || !poll()) return;
  interrupted_ = true;
  end();
}

void TeamRun::end() {
  ended_.store(1);
  if (resting_.load() > 0)
    syscall(SYS_futex, &ended_, FUTEX_WAKE_PRIVATE, job_.parts, nullptr, nullptr, 0);
}

void run_alone(const Job& job) {
  if (job.task(job.context, 0) == Need::kEnd) return;
  for (int64_t polled = now_ns(); job.task(job.context, 0) != Need::kEnd;) {
    const Poll poll = poll_of_calls.load(std::memory_order_relaxed);
    const int64_t now = poll ? now_ns() : polled;
    if (now - polled < kPollAfter) continue;
    polled = now;
    if (poll()) throw Interrupted();
  }
}

}  // namespace

void set_poll(Poll poll) { poll_of_calls = poll; }
void set_hook(Hook hook) { hook_of_tests = hook; }

#if defined(FASTRNN_TEAM_STD_THREAD)

const char* team_backend() { return "std::thread"; }

namespace {

void run_team(TeamRun& run, int n) {
  std::vector<std::thread> others;
  for (int member = 1; member < n; ++member)
    others.emplace_back([&run, member] { run.work(member); });
  run.work(0);
  for (std::thread& other : others) other.join();
}

}  // namespace

#else

const char* team_backend() { return "OpenMP"; }

namespace {

// libgomp ends the process if it cannot create a thread. So as many threads as its pool lacks are
// first created here; they wait for each other, so that all exist at once, and end.
bool can_start(int n) {
  thread_local int pool = 1;  // of the calling thread, at its last parallel region
  if (n > pool) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    std::vector<pthread_t> made;
    made.reserve(static_cast<size_t>(n - pool));
    pthread_mutex_lock(&mutex);
    const auto pass = [](void* at) -> void* {
      pthread_mutex_lock(static_cast<pthread_mutex_t*>(at));
      pthread_mutex_unlock(static_cast<pthread_mutex_t*>(at));
      return nullptr;
    };
    pthread_t thread;
    while (static_cast<int>(made.size()) < n - pool &&
           pthread_create(&thread, nullptr, pass, &mutex) == 0)
      made.push_back(thread);
    pthread_mutex_unlock(&mutex);
    for (pthread_t each : made) pthread_join(each, nullptr);
    if (static_cast<int>(made.size()) < n - pool) return false;
  }
  pool = n;
  return true;
}

void run_team(TeamRun& run, int n) {
  if (!can_start(n)) {
    run.mark_missing(1);
    run.work(0);
    return;
  }
#pragma omp parallel num_threads(n)
  {
    const int given = omp_get_num_threads(), member = omp_get_thread_num();
    if (member == 0 && given < n) run.mark_missing(given);
    run.work(member);
  }
}

}  // namespace

#endif

void run_job(const Job& job) {
  if (job.parts == 1) return run_alone(job);
  constexpr int kFew = 8;
  Part few[kFew];
  std::unique_ptr<Part[]> many(job.parts > kFew ? new Part[static_cast<size_t>(job.parts)]
                                                : nullptr);
  TeamRun run(job, many ? many.get() : few);
  run_team(run, job.parts);
  run.finish();
}

}  // namespace fastrnn
