// The machine's limits as Python sees them.
#pragma once

#include <pybind11/pybind11.h>

#include "../limits/limits.h"
#include "interpreter.h"

namespace fastrnn {

namespace py = pybind11;

inline py::list list_of(const Rates& rates) {
  py::list both;
  both.append(rates.one);
  both.append(rates.all);
  return both;
}

inline py::dict limits_dict(int threads, int64_t l1, int64_t l2, int64_t l3) {
  MachineLimits found;
  {
    const OthersGoOn others;
    found = measure_limits(threads, {l1, l2, l3});
  }
  py::dict bandwidth, step_ns, all;
  const char* const levels[kMemoryLevels] = {"l1", "l2", "l3", "memory"};
  for (int k = 0; k < kMemoryLevels; ++k) bandwidth[levels[k]] = list_of(found.bandwidth[k]);
  step_ns["rnn_tanh"] = found.rnn_tanh_ns;
  step_ns["lstm"] = found.lstm_ns;
  step_ns["gru"] = found.gru_ns;
  all["fma_gflops"] = list_of(found.fma_gflops);
  all["bfloat16_gflops"] = list_of(found.bfloat16_gflops);
  all["int8_gops"] = list_of(found.int8_gops);
  all["bandwidth"] = bandwidth;
  all["step_ns"] = step_ns;
  all["exchange_ns"] = found.exchange_ns;
  return all;
}

}  // namespace fastrnn
