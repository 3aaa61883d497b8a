// The limits of this machine, which benchmarks set the engine's times beside: rates of arithmetic
// and of reading, the dependency chain of a step, and what an exchange between two cores takes.
// No call of the engine uses them.
#pragma once

#include <stdint.h>

namespace fastrnn {

// A load across two cache lines would count as two.
constexpr int kLineFloats = 16;
struct alignas(64) Line {
  float values[kLineFloats];
};

// What is timed at one level, float32 but for two: jobs.cpp, compiled once for each.
struct LimitJobs {
  const char* level;
  double flops;  // of a round of multiply()
  void (*multiply)(int64_t rounds);
  double bfloat16_flops;
  void (*multiply_bfloat16)(int64_t rounds);
  double int8_operations;
  void (*multiply_int8)(int64_t rounds);
  void (*read)(const Line* from, int64_t lines, int64_t repeats);
  // Steps that wait for each other: h stored, one element of it loaded and broadcast, one FMA, the
  // cell.
  void (*rnn_tanh)(int64_t steps);
  void (*lstm)(int64_t steps);
  void (*gru)(int64_t steps);
};

constexpr int kMemoryLevels = 4;  // L1, L2, L3 and memory
// Of one core, and of so many threads together.
struct Rates {
  double one, all;
};
struct MachineLimits {
  Rates fma_gflops, bfloat16_gflops, int8_gops;
  Rates bandwidth[kMemoryLevels];  // GB/s read; each thread reads memory of its own
  double rnn_tanh_ns, lstm_ns, gru_ns;
  double exchange_ns;  // from a store on one core until another core sees it; 0 with one thread
};

// Bytes of the data caches as one core sees them: of an L3 that cores share in groups, the group's.
struct CacheBytes {
  int64_t l1, l2, l3;
};

// Measured at the highest usable level, on threads of its own, in some seconds. Rates and chains
// are the best of several trials: limits, not means. The exchange is a median: now and then two
// cores exchange faster than they can be relied on to, or one is taken away. Throws Error: threads
// not within 1..4096, caches not within 4 KiB .. 4 GiB.
MachineLimits measure_limits(int threads, const CacheBytes& caches);

}  // namespace fastrnn
