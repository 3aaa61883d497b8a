// What the suite's C++ programs share: the level that this very compilation is for, and a clock.
#pragma once

#if defined(__AVX512F__)
#define FASTRNN_ISA isa_avx512
#define FASTRNN_VECTOR_BYTES 64
#define FASTRNN_LEVEL_AVX512
#elif defined(__AVX2__)
#define FASTRNN_ISA isa_avx2
#define FASTRNN_VECTOR_BYTES 32
#define FASTRNN_LEVEL_AVX2
#else
#define FASTRNN_ISA isa_scalar
#define FASTRNN_VECTOR_BYTES 16
#define FASTRNN_LEVEL_SCALAR
#endif

#include <algorithm>
#include <chrono>

#include "simd/math.h"

#include "cells/gru.h"
#include "cells/lstm.h"
#include "cells/rnn.h"

// Makes the compiler believe that a vector is read and changed here.
#if defined(__x86_64__)
#define KEEP(v) asm volatile("" : "+x"((v).raw))
#else
#define KEEP(v) asm volatile("" : "+w"((v).raw))
#endif

namespace bench {

inline double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// Least seconds of a call of job.
template <class Job> double seconds(const Job& job) {
  double best = 1e9;
  for (int trial = 0; trial < 9; ++trial) {
    const double start = now();
    job();
    best = std::min(best, now() - start);
  }
  return best;
}

}  // namespace bench
