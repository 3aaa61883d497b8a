#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "../core/error.h"
#include "../cpu/dispatch.h"
#include "limits.h"

namespace fastrnn {

#define FASTRNN_LIMITS(level)          \
  namespace isa_##level {              \
    extern const LimitJobs limit_jobs; \
  }
#include "limits_list.inc"
#undef FASTRNN_LIMITS

namespace {

constexpr int kTrials = 7;

const LimitJobs& jobs_of(const std::string& level) {
  static const std::vector<const LimitJobs*> table = {
#define FASTRNN_LIMITS(level) &isa_##level::limit_jobs,
#include "limits_list.inc"
#undef FASTRNN_LIMITS
  };
  for (const LimitJobs* jobs : table)
    if (level == jobs->level) return *jobs;
  throw Error(Fault::kRuntime, "limits", "this build has no level that this processor can run");
}

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// The allowed processors, in order.
std::vector<int> allowed() {
  cpu_set_t set;
  std::vector<int> found;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
  return found;
}

// Keeps the calling thread on the k-th of them, or leaves it where none is known.
void pin(const std::vector<int>& cpus, size_t k) {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpus[k % cpus.size()], &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

// Runs job(k) on n threads of their own, and waits for them. A job must end where `stop` is set,
// which says that not all of them could be started.
template <class Job> void on_threads(int n, std::atomic<bool>& stop, const Job& job) {
  std::vector<std::thread> team;
  try {
    for (int k = 0; k < n; ++k) team.emplace_back(job, k);
  } catch (...) {
    stop = true;
    for (std::thread& t : team) t.join();
    throw;
  }
  for (std::thread& t : team) t.join();
}

// Runs job(k) on n threads that start together; returns the best units in a second of all of them,
// where each job does `units`.
template <class Job> double rate(int n, double units, const Job& job) {
  const std::vector<int> cpus = allowed();
  double best = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::atomic<int> ready{0};
    std::atomic<bool> stop{false};
    std::vector<double> seconds(static_cast<size_t>(n));
    on_threads(n, stop, [&](int k) {
      pin(cpus, static_cast<size_t>(k));
      job(k);  // warm
      ++ready;
      while (ready < n && !stop) sched_yield();
      const double start = now();
      job(k);
      seconds[static_cast<size_t>(k)] = now() - start;
    });
    double sum = 0;
    for (double s : seconds) sum += units / s;
    best = std::max(best, sum);
  }
  return best;
}

double gflops(void (*multiply)(int64_t), double flops, int n) {
  constexpr int64_t kRounds = 1000000;
  return 1e-9 * rate(n, kRounds * flops, [&](int) { multiply(kRounds); });
}

double bandwidth(const LimitJobs& jobs, int n, int64_t bytes) {
  const int64_t lines = bytes / static_cast<int64_t>(sizeof(Line));
  const int64_t repeats = std::max<int64_t>(1, (48 << 20) / bytes);
  const std::vector<Line> filled(static_cast<size_t>(lines), Line{{1.0f}});
  const std::vector<std::vector<Line>> buffers(static_cast<size_t>(n), filled);
  const double units = static_cast<double>(bytes) * static_cast<double>(repeats);
  return 1e-9 * rate(n, units, [&](int k) {
           jobs.read(buffers[static_cast<size_t>(k)].data(), lines, repeats);
         });
}

double step_ns(void (*steps)(int64_t)) {
  constexpr int64_t kSteps = 20000;
  return 1e9 / rate(1, kSteps, [&](int) { steps(kSteps); });
}

// Two threads on two cores take turns in storing what the other waits for.
double exchange_ns() {
  const std::vector<int> cpus = allowed();
  if (cpus.size() < 2) return 0;
  constexpr int kRepeats = 301, kTurns = 200;
  alignas(64) std::atomic<int> turn{0};
  std::atomic<bool> stop{false};
  std::vector<double> ns(kRepeats);
  on_threads(2, stop, [&](int me) {
    pin(cpus, static_cast<size_t>(me));
    for (int repeat = 0; repeat < kRepeats && !stop; ++repeat) {
      const double start = now();
      for (int i = me; i < kTurns; i += 2) {
        const int mine = repeat * kTurns + i;
        for (int spins = 0; turn.load(std::memory_order_acquire) != mine && !stop; ++spins)
          if (spins > 100000) sched_yield();
        turn.store(mine + 1, std::memory_order_release);
      }
      if (me == 0) ns[static_cast<size_t>(repeat)] = (now() - start) / kTurns * 1e9;
    }
  });
  std::nth_element(ns.begin(), ns.begin() + kRepeats / 2, ns.end());
  return ns[kRepeats / 2];
}

void check(int threads, const CacheBytes& caches) {
  if (threads < 1 || threads > 4096)
    throw Error(Fault::kValue, "limits",
                "threads must be within 1..4096, got " + std::to_string(threads));
  for (int64_t bytes : {caches.l1, caches.l2, caches.l3})
    if (bytes < 4 << 10 || bytes > int64_t{4} << 30)
      throw Error(Fault::kValue, "limits",
                  "caches must be within 4 KiB .. 4 GiB, got " + std::to_string(bytes) + " bytes");
}

}  // namespace

MachineLimits measure_limits(int threads, const CacheBytes& caches) {
  check(threads, caches);
  const std::vector<std::string> usable = usable_levels();
  const LimitJobs& jobs = jobs_of(usable.empty() ? "" : usable.back());
  MachineLimits found{};
  const auto measured = [&](const auto& of) { return Rates{of(1), of(threads)}; };
  found.fma_gflops = measured([&](int n) { return gflops(jobs.multiply, jobs.flops, n); });
  found.bfloat16_gflops =
      measured([&](int n) { return gflops(jobs.multiply_bfloat16, jobs.bfloat16_flops, n); });
  found.int8_gops =
      measured([&](int n) { return gflops(jobs.multiply_int8, jobs.int8_operations, n); });
  const int64_t beyond = std::min<int64_t>(std::max<int64_t>(2 * caches.l3, 64 << 20), 256 << 20);
  const int64_t in_l3 = std::min(4 * caches.l2, caches.l3 / 2);
  const struct {
    int64_t bytes;
    bool divided;  // among the threads
  } reads[kMemoryLevels] = {{caches.l1 / 2, false},
                            {caches.l2 / 2, false},
                            {in_l3, in_l3 != 4 * caches.l2},
                            {beyond, true}};
  for (int k = 0; k < kMemoryLevels; ++k)
    found.bandwidth[k] = measured([&](int n) {
      return bandwidth(jobs, n, reads[k].divided ? reads[k].bytes / n : reads[k].bytes);
    });
  found.rnn_tanh_ns = step_ns(jobs.rnn_tanh);
  found.lstm_ns = step_ns(jobs.lstm);
  found.gru_ns = step_ns(jobs.gru);
  found.exchange_ns = threads > 1 ? exchange_ns() : 0.0;
  return found;
}

}  // namespace fastrnn
