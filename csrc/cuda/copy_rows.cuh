// Copies of rows of a sequence, for the products around the recurrence: of an input whose padding
// must be zeros or that is laid out otherwise, of the output before each step, of a masked output.
//
// A warp takes a row. Bound: memory.
#pragma once

#include "pass_view.cuh"

namespace fastrnn {
namespace gpu {

template <class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    copy_rows(FASTRNN_ARGUMENT CopyPass pass) {
  const PassView<CopyPass, CopyPass> at{pass, pass};
  const int64_t B = pass.scan.B, rows = (pass.end - pass.begin) * B;
  const int64_t warps = int64_t(blocks()) * (threads() / kLanes);
  for (int64_t row = int64_t(block()) * (threads() / kLanes) + thread() / kLanes; row < rows;
       row += warps) {
    const int64_t t = pass.begin + row / B, b = row % B;
    const bool runs = pass.rule == CopyRule::kRows || at.runs(t, b, length_of(pass.scan, b));
    const S* from = !runs ? nullptr
                    : pass.rule == CopyRule::kBefore
                        ? at.template h_before<S>(t, b, length_of(pass.scan, b))
                        : row_of<const S>(pass.h, t, b);
    const S* mask = pass.mask.base ? row_of<const S>(pass.mask, t, b) : nullptr;
    S* to = row_of<S>(pass.to, t - pass.begin, b);
    for (int64_t i = thread() % kLanes; i < pass.H; i += kLanes) {
      const S value = from ? from[i] : narrow<S>(Acc<S>(0));
      to[i] = mask ? narrow<S>(widen(value) * widen(mask[i])) : value;
    }
  }
}

}  // namespace gpu
}  // namespace fastrnn
