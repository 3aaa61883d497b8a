// Where rows are held: what each of their steps goes on from, for the kernels to look up. A thread
// takes a row in one direction.
//
// Bound: memory, of a flag and a table's entry for each step.
#pragma once

#include "pass_view.cuh"

namespace fastrnn {
namespace gpu {

static FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads) lay_out_steps(FASTRNN_ARGUMENT LayOutPass pass) {
  const int64_t B = pass.scan.B, T = pass.scan.T;
  for (int64_t i = int64_t(block()) * threads() + thread(); i < pass.directions * B;
       i += int64_t(blocks()) * threads()) {
    const int64_t d = i / B, b = i % B, length = length_of(pass.scan, b);
    int32_t* const before = pass.before + d * (T + 1) * B + b;
    const Schedule schedule{pass.scan.inputs, pass.reverse[d] != 0};
    HeldRow row{schedule, b};
    for (int64_t s = 0; s < T; ++s) {
      const int64_t t = schedule.time(s, T);
      before[t * B] = static_cast<int32_t>(t < length ? row.take(t) : row.last);
    }
    before[T * B] = static_cast<int32_t>(row.last);
  }
}

}  // namespace gpu
}  // namespace fastrnn
