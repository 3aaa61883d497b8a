// The recurrent product of the grid mode: rows of a sequence, from global memory, times the columns
// that a block keeps in its shared memory for the whole pass.
//
//   sums[row][column] = sum over k of rows[row][k] * weights[column][k]
//
// A warp takes four columns and up to eight rows; its lanes split k among them, four neighbours at
// a time, and reduce by a butterfly that leaves each lane with one of the sums. So a sum associates
// in the same way whatever the plan: for a row alone or in a batch, in a block with few units or
// many. Chunks of k have partial sums of their own (split-k), which are added in ascending k, so
// that warps split the chunks too where there are few columns.
//
// Rows are staged in shared memory, as many values at a time as there is room for: four loads of
// each thread are in flight at once, so a staging takes little more than one of them. How much is
// staged at once changes no sum, because chunks of kChunk values are multiplied and added one after
// another.
//
// Bound: shared memory, 4 * (rows + 4) values for 16 * rows products; from eight rows on 2/3 of the
// arithmetic's rate.
#pragma once

#include "copy.cuh"

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

// The block's columns and where it works. `staged`: [rows][staged(rows)], what a staging brought.
// `sums`: [slots][rows][columns], one slot for each chunk of a staging.
template <class S> struct Product {
  KDim k_dim;
  const S* weights;
  int columns;
  float *staged, *sums;
};

// A warp's tile over one chunk, the `slot`-th of a staging that began at `begin` and has n values.
template <int R, class S>
FASTRNN_DEVICE void multiply_tile(const Product<S>& p, int begin, int n, int slot, int column) {
  constexpr int C = kTileColumns;
  const int lane = thread() % kLanes, staged_k = p.k_dim.staged(R), at = slot * kChunk;
  const S* w[C];
  for (int c = 0; c < C; ++c)  // past the end: the last column again, whose sum is not kept
    w[c] =
        p.weights + begin + (column + c < p.columns ? column + c : p.columns - 1) * p.k_dim.size();
  float v[R * C] = {};
  for (int k = at + 4 * lane; k < n && k < at + kChunk; k += 4 * kLanes) {
    Quad<S> q[C];
    FASTRNN_UNROLL
    for (int c = 0; c < C; ++c) q[c] = *reinterpret_cast<const Quad<S>*>(w[c] + k);
    FASTRNN_UNROLL
    for (int r = 0; r < R; ++r) {
      const Quad<float> x = *reinterpret_cast<const Quad<float>*>(p.staged + r * staged_k + k);
      FASTRNN_UNROLL
      for (int i = 0; i < 4 * C; ++i)
        v[r * C + i % C] = fused(x.v[i / C], widen(q[i % C].v[i / C]), v[r * C + i % C]);
    }
  }
  const float sum = sum_over_lanes<R * C>(v);
  constexpr int kOwners = kLanes / (R * C);  // lanes that hold the same sum
  const int i = lane / kOwners;
  if (lane % kOwners == 0 && column + i % C < p.columns) {
    float* to = p.sums + (slot * R + i / C) * p.columns + column + i % C;
    *to = begin > 0 && slot == 0 ? *to + sum : sum;
  }
}

// The sums of a product: the partial sums of its slots, added in ascending k.
struct PartialSums {
  float* first;
  int rows, columns, slots;

  FASTRNN_DEVICE float operator()(int row, int column) const {
    const float* slot = first + row * columns + column;
    float sum = *slot;
    for (int i = 1; i < slots; ++i) sum = sum + slot[i * rows * columns];
    return sum;
  }
};

// Brings n values of R rows into shared memory, from `begin` of each on; zeros for rows from
// `count` on.
template <int R, class S, class SegmentOf>
FASTRNN_DEVICE void stage(const Product<S>& p, int count, int begin, int n, SegmentOf segment_of) {
  constexpr int kQuads = kStaged / 4, kOfRow = kQuads / R;
  const int padded = p.k_dim.padded(), staged_k = p.k_dim.staged(R);
  copy_in_flight<kQuads / kMaxThreads>(
      kQuads,
      [&](int i) {
        const int r = i / kOfRow, k = begin + 4 * (i % kOfRow);
        if (r >= count || k >= begin + n) return exchange_quad<S>(nullptr, 0, 0);
        const int segment = k / padded;
        return exchange_quad<S>(segment_of(r, segment), k - segment * padded, p.k_dim.H);
      },
      [&](int i, const Quad<S>& q) {
        const int r = i / kOfRow, k = 4 * (i % kOfRow);
        if (k < n)
          *reinterpret_cast<Quad<float>*>(p.staged + r * staged_k + k) = {
              {widen(q.v[0]), widen(q.v[1]), widen(q.v[2]), widen(q.v[3])}};
      });
}

template <int R, class S, class SegmentOf>
FASTRNN_DEVICE PartialSums multiply_rows(const Product<S>& p, int count, SegmentOf segment_of) {
  const int warp = thread() / kLanes, warps = threads() / kLanes;
  const int size = p.k_dim.size(), staged_k = p.k_dim.staged(R);
  const int groups = (p.columns + kTileColumns - 1) / kTileColumns;
  PartialSums sums{p.sums, R, p.columns, 0};
  for (int begin = 0; begin < size; begin += staged_k) {
    const int n = size - begin < staged_k ? size - begin : staged_k;
    if (begin > 0) {
      sync_block("product: what was staged is used");
      if (sums.slots > 1)  // into the first slot, from which the next chunk goes on
        for (int i = thread(); i < R * p.columns; i += threads())
          p.sums[i] = sums(i / p.columns, i % p.columns);
    }
    stage<R>(p, count, begin, n, segment_of);
    sync_block("product: the rows are staged");
    sums.slots = (n + kChunk - 1) / kChunk;
    for (int i = warp; i < groups * sums.slots; i += warps)
      multiply_tile<R>(p, begin, n, i / groups, i % groups * kTileColumns);
  }
  return sums;
}

// The product for `count` rows (at most kTileRows). segment_of(r, s) points to the H values of
// segment s of row r, null for zeros. Everyone of the block takes part; the sums may be read after
// the caller's next sync_block.
template <class S, class SegmentOf>
FASTRNN_DEVICE PartialSums multiply(const Product<S>& p, int count, SegmentOf segment_of) {
  switch (rows_of_tile(count)) {
    case 1: return multiply_rows<1>(p, count, segment_of);
    case 4: return multiply_rows<4>(p, count, segment_of);
    default: return multiply_rows<kTileRows>(p, count, segment_of);
  }
}

}  // namespace gpu
}  // namespace fastrnn
