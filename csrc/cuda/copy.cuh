// Copies from global memory by all threads of a block, with several loads of each on their way at
// once: one alone would wait for memory some 0.6 microseconds a turn.
#pragma once

#include "gpu.h"

namespace fastrnn {
namespace gpu {

// store(i, load(i)) for every i below n, N loads at a time. (Loads and stores are apart because the
// compiler cannot know that a store changes nothing that is loaded after it.)
template <int N, class Load, class Store>
FASTRNN_DEVICE void copy_in_flight(int n, Load load, Store store) {
  for (int first = thread(); first < n; first += N * threads()) {
    decltype(load(0)) values[N];
    FASTRNN_UNROLL
    for (int j = 0; j < N; ++j)
      if (first + j * threads() < n) values[j] = load(first + j * threads());
    FASTRNN_UNROLL
    for (int j = 0; j < N; ++j)
      if (first + j * threads() < n) store(first + j * threads(), values[j]);
  }
}

// Four of the `n` values that `from` points to, from the k-th on; zeros past the end, or without
// any. By one load where the address allows it: arrays are aligned to their elements only.
template <class S> FASTRNN_DEVICE Quad<S> exchange_quad(const S* from, int64_t k, int64_t n) {
  Quad<S> quad;
  const S* p = from + k;
  if (from && k + 4 <= n && reinterpret_cast<uintptr_t>(p) % sizeof quad == 0)
    return exchange_load(reinterpret_cast<const Quad<S>*>(p));
  FASTRNN_UNROLL
  for (int i = 0; i < 4; ++i)
    quad.v[i] = from && k + i < n ? exchange_load(p + i) : narrow<S>(Acc<S>(0));
  return quad;
}

}  // namespace gpu
}  // namespace fastrnn
