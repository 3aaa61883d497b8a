// What the suite's C++ programs share: the cells and maths of the level that FASTRNN_UNIT_LEVEL
// names, and a clock.
#pragma once

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
