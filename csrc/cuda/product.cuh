// The recurrent product of the grid mode: rows of a sequence, from global memory, times the columns
// that a block keeps in its shared memory for the whole pass.
//
//   sums[row][column] = sum over k of rows[row][k] * weights[column][k]
//
// A warp takes four columns and up to eight rows; its lanes share out k, four neighbours at a time,
// and add up by a butterfly that leaves each lane with one of the sums. So a sum is made in the
// same order whatever the plan: for a row alone or in a batch, in a block with few units or many.
//
// Bound: shared memory, 4 * (rows + 4) values for 16 * rows products; from eight rows on 2/3 of the
// arithmetic's rate.
#pragma once

#include "gpu.h"
#include "layout.h"

namespace fastrnn {
namespace gpu {

// Adds up the first N values over the lanes, in the order of lanes' bits 4, 3, 2, 1, 0. Returns
// value lane / (32 / N). (By recursion, so that every index is a constant and v stays in
// registers.)
template <int N, int Bit = kLanes / 2, int Size>
FASTRNN_DEVICE float sum_over_lanes(float (&v)[Size]) {
  if constexpr (Bit == 0) {
    return v[0];
  } else if constexpr (N == 1) {
    v[0] = v[0] + shuffle_xor(v[0], Bit, "product: lanes add up");
    return sum_over_lanes<1, Bit / 2>(v);
  } else {
    constexpr int n = N / 2;
    const bool upper = thread() & Bit;
    FASTRNN_UNROLL
    for (int i = 0; i < n; ++i) {
      const float give = upper ? v[i] : v[i + n], keep = upper ? v[i + n] : v[i];
      v[i] = keep + shuffle_xor(give, Bit, "product: lanes exchange sums");
    }
    return sum_over_lanes<n, Bit / 2>(v);
  }
}

// A warp's tile over one chunk of n values.
template <int R, class S> FASTRNN_DEVICE void multiply_tile(const float* rows, int row_stride,
                                                            const S* weights, int weight_stride,
                                                            int n, int column, int columns,
                                                            bool first, float* sums) {
  constexpr int C = kTileColumns;
  const int lane = thread() % kLanes;
  const S* w[C];
  for (int c = 0; c < C; ++c)  // past the end: the last column again, whose sum is not kept
    w[c] = weights + (column + c < columns ? column + c : columns - 1) * weight_stride;
  float v[R * C] = {};
  for (int k = 4 * lane; k < n; k += 4 * kLanes) {
    Quad<S> q[C];
    FASTRNN_UNROLL
    for (int c = 0; c < C; ++c) q[c] = *reinterpret_cast<const Quad<S>*>(w[c] + k);
    FASTRNN_UNROLL
    for (int r = 0; r < R; ++r) {
      const Quad<float> x = *reinterpret_cast<const Quad<float>*>(rows + r * row_stride + k);
      FASTRNN_UNROLL
      for (int i = 0; i < 4 * C; ++i)
        v[r * C + i % C] = fused(x.v[i / C], widen(q[i % C].v[i / C]), v[r * C + i % C]);
    }
  }
  const float sum = sum_over_lanes<R * C>(v);
  constexpr int kOwners = kLanes / (R * C);  // lanes that hold the same sum
  const int i = lane / kOwners;
  if (lane % kOwners == 0 && column + i % C < columns) {
    float* to = sums + i / C * columns + column + i % C;
    *to = first ? sum : *to + sum;
  }
}

// The product for `count` rows (at most kTileRows). row_of(r) points to the row's values, null for
// zeros; segment s of a row begins `plane(s) * H` values on. Everyone of the block takes part;
// the sums are there after the caller's next sync_block.
template <class S, class RowOf, class Plane>
FASTRNN_DEVICE void multiply(const Extent& extent, int count, RowOf row_of, Plane plane,
                             const S* weights, int columns, float* tile, float* sums) {
  const int lane = thread() % kLanes, warp = thread() / kLanes, warps = threads() / kLanes;
  const int size = extent.size(), padded = extent.padded(), stride = extent.chunk();
  for (int begin = 0; begin < size; begin += kChunk) {
    const int n = size - begin < kChunk ? size - begin : kChunk;
    if (begin > 0) sync_block("product: the chunk before is used");
    const int rows = count == 1 ? 1 : count <= 4 ? 4 : kTileRows;
    for (int r = warp; r < rows; r += warps) {
      const S* row = r < count ? row_of(r) : nullptr;
      for (int k = 0; k < n;) {
        const int segment = (begin + k) / padded, u = (begin + k) % padded;
        const int m = padded - u < n - k ? padded - u : n - k;
        const S* from = row ? row + plane(segment) * extent.H : nullptr;
        for (int i = lane; i < m; i += kLanes)
          tile[r * stride + k + i] =
              from && u + i < extent.H ? widen(exchange_load(from + u + i)) : 0.0f;
        k += m;
      }
    }
    sync_block("product: the chunk is staged");
    for (int column = kTileColumns * warp; column < columns; column += kTileColumns * warps) {
      const S* w = weights + begin;
      const bool first = begin == 0;
      if (rows == 1)
        multiply_tile<1>(tile, stride, w, size, n, column, columns, first, sums);
      else if (rows == 4)
        multiply_tile<4>(tile, stride, w, size, n, column, columns, first, sums);
      else
        multiply_tile<8>(tile, stride, w, size, n, column, columns, first, sums);
    }
  }
}

}  // namespace gpu
}  // namespace fastrnn
