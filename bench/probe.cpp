// The limits of this machine, as JSON: bench/limits.py compiles this with -O3 -march=native.
//
//   probe THREADS L1 L2 L3      sizes in bytes
//
//   fma_gflops    [one core, all threads] float32
//   bandwidth     level -> [one core, all threads] GB/s read; each thread reads memory of its own
//   step_ns       cell -> the dependency chain of a step: h stored, one element of it loaded and
//                 broadcast, one FMA, the cell
//   exchange_ns   from a store on one core until another core sees it; 0 with one thread
//
// Rates and chains are the best of several trials: limits, not means. The exchange is a median: now
// and then two cores exchange faster than they can be relied on to, or one is taken away.
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "native.h"

namespace {

using namespace fastrnn;
using namespace fastrnn::FASTRNN_ISA;
using bench::now;
using V = Vec<float>;
constexpr int kTrials = 7, kLineFloats = 16;

// A load across two cache lines would count as two.
struct alignas(64) Line {
  float values[kLineFloats];
};

// The allowed processors, in order.
std::vector<int> processors() {
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
  return found;
}

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

// Runs job(thread) on n threads that start together; returns the best units/second of all of them,
// where each job does `units`.
template <class Job> double rate(int n, double units, const Job& job) {
  static const std::vector<int> cpus = processors();
  double best = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::atomic<int> ready{0};
    std::vector<double> seconds(n);
    std::vector<std::thread> team;
    for (int i = 0; i < n; ++i)
      team.emplace_back([&, i] {
        pin(cpus[i % cpus.size()]);
        job(i);  // warm
        ++ready;
        while (ready < n) sched_yield();
        const double start = now();
        job(i);
        seconds[i] = now() - start;
      });
    for (auto& t : team) t.join();
    double sum = 0;
    for (double s : seconds) sum += units / s;
    best = std::max(best, sum);
  }
  return best;
}

template <int N> void finish(V (&acc)[N]) {
  V sum = acc[0];
  for (int c = 1; c < N; ++c) sum = sum + acc[c];
  KEEP(sum);
}

void fma_job(int64_t n) {
  constexpr int kChains = 10;  // 2 units x 4 cycles, and some room
  V acc[kChains], a(1.0f), b(0.5f);
  for (auto& v : acc) v = V(1.0f);
  KEEP(a);
  KEEP(b);
  for (int64_t i = 0; i < n; ++i)
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) acc[c] = fma(acc[c], b, a);
  finish(acc);
}

// Loads and nothing else, none waiting for another.
void read_job(const Line* from, int64_t lines, int64_t repeats) {
  constexpr int kLines = 8, L = V::kLanes;
  for (int64_t repeat = 0; repeat < repeats; ++repeat)
    for (int64_t i = 0; i + kLines <= lines; i += kLines)
#pragma GCC unroll 32
      for (int c = 0; c < kLines * kLineFloats / L; ++c) {
        const Line& line = from[i + c * L / kLineFloats];
        V v = V::load(line.values + c * L % kLineFloats);
        KEEP(v);
      }
}

double bandwidth(int n, int64_t bytes) {
  const int64_t lines = bytes / static_cast<int64_t>(sizeof(Line));
  const int64_t repeats = std::max<int64_t>(1, (48 << 20) / bytes);
  std::vector<std::vector<Line>> buffers(n, std::vector<Line>(lines, Line{{1.0f}}));
  return 1e-9 * rate(n, double(bytes) * repeats,
                     [&](int i) { read_job(buffers[i].data(), lines, repeats); });
}

template <class Cell> double step_ns() {
  constexpr int64_t kSteps = 20000;
  const double steps = rate(1, kSteps, [](int) {
    const Exact m{};
    alignas(64) float h[V::kLanes] = {};
    Pack<V, Cell::kStates> s;
    for (int k = 0; k < Cell::kStates; ++k) s[k] = V(0.1f);
    V w(0.1f);
    KEEP(w);
    for (int64_t t = 0; t < kSteps; ++t) {
      s[0].store(h);
      asm volatile("" : : "r"(h) : "memory");
      const V broadcast(h[0]);
      Pack<V, Cell::kGates> x, r;
      Pack<V, Cell::kSaved> save;
      for (int g = 0; g < Cell::kGates; ++g) {
        x[g] = r[g] = fma(broadcast, w, w);
        KEEP(x[g]);
      }
      Cell::forward(m, x, r, s, save);
    }
    KEEP(s[0]);
  });
  return 1e9 / steps;
}

// Two threads on two cores take turns in storing what the other waits for.
double exchange_ns() {
  static const std::vector<int> cpus = processors();
  if (cpus.size() < 2) return 0;
  constexpr int kRepeats = 301, kTurns = 200;
  alignas(64) std::atomic<int> turn{0};
  std::array<double, kRepeats> ns;
  const auto play = [&](int me) {
    pin(cpus[me]);
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      const double start = now();
      for (int i = me; i < kTurns; i += 2) {
        const int mine = repeat * kTurns + i;
        for (int spins = 0; turn.load(std::memory_order_acquire) != mine; ++spins)
          if (spins > 100000) sched_yield();
        turn.store(mine + 1, std::memory_order_release);
      }
      if (me == 0) ns[repeat] = (now() - start) / kTurns * 1e9;
    }
  };
  std::thread one(play, 0), other(play, 1);
  one.join();
  other.join();
  std::nth_element(ns.begin(), ns.begin() + kRepeats / 2, ns.end());
  return ns[kRepeats / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const int threads = std::max(1, std::atoi(argv[1]));
  const int64_t l1 = std::atoll(argv[2]), l2 = std::atoll(argv[3]), l3 = std::atoll(argv[4]);
  static constexpr int64_t kFmas = 1000000;
  const auto gflops = [&](int n) {
    return 1e-9 * rate(n, 10.0 * kFmas * 2 * V::kLanes, [](int) { fma_job(kFmas); });
  };
  std::printf("{\"fma_gflops\": [%.2f, %.2f], \"bandwidth\": {", gflops(1), gflops(threads));
  const int64_t beyond = std::min<int64_t>(std::max<int64_t>(2 * l3, 64 << 20), 256 << 20);
  const struct {
    const char* name;
    int64_t bytes;
    bool shared;
  } levels[] = {{"l1", l1 / 2, false},
                {"l2", l2 / 2, false},
                {"l3", std::min(4 * l2, l3 / 2), true},
                {"memory", beyond, true}};
  for (const auto& level : levels) {
    const auto read = [&](int n) {
      const bool fits = !level.shared || level.bytes == 4 * l2;
      return bandwidth(n, fits ? level.bytes : level.bytes / n);
    };
    std::printf("%s\"%s\": [%.2f, %.2f]", level.name == levels[0].name ? "" : ", ", level.name,
                read(1), read(threads));
  }
  std::printf("}, \"step_ns\": {\"rnn_tanh\": %.2f, \"lstm\": %.2f, \"gru\": %.2f}, ",
              step_ns<Rnn<Tanh>>(), step_ns<Lstm>(), step_ns<Gru>());
  std::printf("\"exchange_ns\": %.2f}\n", threads > 1 ? exchange_ns() : 0.0);
}
