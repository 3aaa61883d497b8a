#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#if defined(FASTRNN_TEAM_STD_THREAD)
#include <thread>
#else
#include <omp.h>
#endif

namespace fastrnn {

namespace {

std::atomic<int> num_threads{0};  // 0: not set
std::atomic<bool> forked{false};
thread_local int limit_of_call = 0;  // 0: none

int processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

void reset(Barrier* barrier, int members) {
  barrier->arrived = 0;
  barrier->round = 0;
  barrier->members = static_cast<uint32_t>(members);
}

void wait(Barrier* barrier) {
  const uint32_t round = __atomic_load_n(&barrier->round, __ATOMIC_RELAXED);
  if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == barrier->members) {
    __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&barrier->round, round + 1, __ATOMIC_RELEASE);
    return;
  }
  for (int spins = 0; __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round; ++spins)
    if (spins < 2000)
      relax();
    else
      sched_yield();
}

TeamLimit::TeamLimit(int n) : before_(limit_of_call) {
  if (n > 0) limit_of_call = n;
}
TeamLimit::~TeamLimit() { limit_of_call = before_; }

void set_num_threads(int n) { num_threads = n; }

int get_num_threads() {
  const int n = num_threads;
  if (n > 0) return n;
#if defined(FASTRNN_TEAM_STD_THREAD)
  return processors();
#else
  const int limit = omp_get_max_threads(), cores = processors();
  return limit < cores ? limit : cores;
#endif
}

int available_threads() {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
  if (registered != 0 || forked.load(std::memory_order_relaxed)) return 1;
#if !defined(FASTRNN_TEAM_STD_THREAD)
  if (omp_in_parallel()) return 1;
#endif
  return limit_of_call > 0 ? limit_of_call : get_num_threads();
}

#if defined(FASTRNN_TEAM_STD_THREAD)

const char* team_backend() { return "std::thread"; }

void run_team(int n, void (*job)(void*, int, int), void* context) {
  std::vector<std::thread> others;
  for (int member = 1; member < n; ++member) others.emplace_back(job, context, member, n);
  job(context, 0, n);
  for (std::thread& other : others) other.join();
}

#else

const char* team_backend() { return "OpenMP"; }

namespace {

// libgomp ends the process where a thread cannot be made. So threads that its pool does not hold
// yet are tried first: they are made, wait for each other, and leave their stacks to those that
// follow.
bool can_start(int n) {
  thread_local int pool = 1;  // of the calling thread, at its last parallel region
  if (n > pool) {
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    std::vector<pthread_t> made;
    made.reserve(static_cast<size_t>(n - pool));
    pthread_mutex_lock(&gate);
    const auto pass = [](void* at) -> void* {
      pthread_mutex_lock(static_cast<pthread_mutex_t*>(at));
      pthread_mutex_unlock(static_cast<pthread_mutex_t*>(at));
      return nullptr;
    };
    pthread_t thread;
    while (static_cast<int>(made.size()) < n - pool &&
           pthread_create(&thread, nullptr, pass, &gate) == 0)
      made.push_back(thread);
    pthread_mutex_unlock(&gate);
    for (pthread_t each : made) pthread_join(each, nullptr);
    if (static_cast<int>(made.size()) < n - pool) return false;
  }
  pool = n;
  return true;
}

}  // namespace

void run_team(int n, void (*job)(void*, int, int), void* context) {
  if (n == 1 || !can_start(n)) {
    job(context, 0, 1);
    return;
  }
#pragma omp parallel num_threads(n)
  {
    const int given = omp_get_num_threads();
    if (given == n)
      job(context, omp_get_thread_num(), n);
    else if (omp_get_thread_num() == 0)
      job(context, 0, 1);
  }
}

#endif

}  // namespace fastrnn
