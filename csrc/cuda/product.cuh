// The recurrent product of the grid mode: rows of a sequence times the columns whose weights a
// block keeps in its shared memory for the whole pass, or streams through it where they do not fit.
//
//   sums[row][column] = sum over k of rows[row][k] * weights[column][k]
//
// Chunks of k have partial sums of their own, which are added in ascending k; inside of a chunk a
// sum associates in one way too. So its bits are the same whatever the plan: for a row alone or in
// a batch, in a block with few units or many, with much or little staged at once. Warps share the
// columns, and the chunks too where there are few columns (`slots`).
//
// Without tensor cores a warp takes up to eight rows and eight columns; its lanes split k among
// them, four neighbours at a time, and reduce by a butterfly that leaves each lane with some of the
// sums. With them a warp takes 16 columns and 8 to 32 rows, one row or many alike.
//
// Bound: shared memory. Without tensor cores 4 * (rows + columns) values for 4 * rows * columns
// products, which for 8 x 8 is the rate of the arithmetic; with them 16 * 16 and 16 * rows values
// for 16 * 16 * rows products.
#pragma once

#include "copy.cuh"

namespace fastrnn {
namespace gpu {

// The block's columns and where it works.
template <class S> struct Product {
  const Grid& grid;
  int columns;
  const S* weights;  // [columns][resident_stride]
  S* streamed;       // [columns][staged_stride]
  float* sums;       // [slots][rows][columns]
};

// Part of k that is in shared memory, from `begin` on: `rows` rows and the weights of all columns.
template <class S> struct Staging {
  int begin, n, rows;
  const S* staged;
  const S* weights;
  int weights_stride;
};

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

// The chunks of a slot, each of which `sum_of(begin, end)` multiplies into N values of a lane; they
// go to at(i), and on from there what an earlier staging left in the first slot. at(i) is null for
// values that nobody keeps.
template <int N, class S, class SumOf, class At>
FASTRNN_DEVICE void add_chunks(const Product<S>& p, const Staging<S>& part, int slot, SumOf sum_of,
                               At at) {
  const int chunk = p.grid.chunk;
  float total[N];
  bool any = part.begin > 0 && slot == 0;
  FASTRNN_UNROLL
  for (int i = 0; i < N; ++i) total[i] = any && at(i) ? *at(i) : 0.0f;
  FASTRNN_ROLLED
  for (int begin = slot * chunk; begin < part.n; begin += p.grid.slots * chunk, any = true) {
    float sum[N] = {};
    sum_of(begin, begin + chunk < part.n ? begin + chunk : part.n, sum);
    FASTRNN_UNROLL
    for (int i = 0; i < N; ++i) total[i] = any ? total[i] + sum[i] : sum[i];
  }
  FASTRNN_UNROLL
  for (int i = 0; i < N; ++i)
    if (at(i)) *at(i) = total[i];
}

// ---- without tensor cores -----------------------------------------------------------------------

// Adds up the first N values over the lanes, in the order of lanes' bits 4, 3, 2, 1, 0. What is
// left in v are values lane * N / 32 and the next, N / 32 of them but at least one. (By recursion,
// so that every index is a constant and v stays in registers.)
template <int N, int Bit = kLanes / 2, int Size>
FASTRNN_DEVICE void sum_over_lanes(float (&v)[Size]) {
  if constexpr (Bit > 0) {
    constexpr int n = N / 2;
    if constexpr (N == 1) {
      v[0] = v[0] + shuffle_xor(v[0], Bit, "product: lanes add up");
    } else {
      const bool upper = thread() & Bit;
      FASTRNN_UNROLL
      for (int i = 0; i < n; ++i) {
        const float give = upper ? v[i] : v[i + n], keep = upper ? v[i + n] : v[i];
        v[i] = keep + shuffle_xor(give, Bit, "product: lanes exchange sums");
      }
    }
    sum_over_lanes<(N > 1 ? n : 1), Bit / 2>(v);
  }
}

// A warp's tile over the chunks of a slot.
template <int R, int C, class S> FASTRNN_DEVICE void multiply_tile(const Product<S>& p,
                                                                   const Staging<S>& part, int slot,
                                                                   int column) {
  constexpr int kSums = R * C, kKept = kSums > kLanes ? kSums / kLanes : 1;
  constexpr int kOwners = kSums < kLanes ? kLanes / kSums : 1;  // lanes that hold the same sum
  const int lane = thread() % kLanes;
  int w[C];
  for (int c = 0; c < C; ++c)  // past the end: the last column again, whose sum is not kept
    w[c] = (column + c < p.columns ? column + c : p.columns - 1) * part.weights_stride;
  const auto sum_of = [&](int begin, int end, float (&sum)[kKept]) {
    float v[kSums] = {};
    for (int k = begin + 4 * lane; k < end; k += 4 * kLanes) {
      Quad<S> q[C];
      FASTRNN_UNROLL
      for (int c = 0; c < C; ++c) q[c] = *reinterpret_cast<const Quad<S>*>(part.weights + w[c] + k);
      FASTRNN_UNROLL
      for (int r = 0; r < R; ++r) {
        const Quad<S> x =
            *reinterpret_cast<const Quad<S>*>(part.staged + r * p.grid.staged_stride + k);
        FASTRNN_UNROLL
        for (int i = 0; i < 4 * C; ++i)
          v[r * C + i % C] = fused(widen(x.v[i / C]), widen(q[i % C].v[i / C]), v[r * C + i % C]);
      }
    }
    sum_over_lanes<kSums>(v);
    FASTRNN_UNROLL
    for (int i = 0; i < kKept; ++i) sum[i] = v[i];
  };
  add_chunks<kKept>(p, part, slot, sum_of, [&](int j) -> float* {
    const int i = lane / kOwners * kKept + j, c = column + i % C;
    if (lane % kOwners != 0 || c >= p.columns) return nullptr;
    return p.sums + (slot * R + i / C) * p.columns + c;
  });
}

// Calls f(slot, column) for this warp's share of tiles of C columns.
template <int C, class S, class F>
FASTRNN_DEVICE void for_tiles(const Product<S>& p, int slots, F f) {
  Cells tile((p.columns + C - 1) / C, thread() / kLanes, threads() / kLanes);
  FASTRNN_ROLLED
  for (; tile.row < slots; tile.next()) f(tile.row, tile.column * C);
}

template <int R, class S>
FASTRNN_DEVICE void multiply_rows(const Product<S>& p, const Staging<S>& part, int slots) {
  constexpr bool kMayBeWide = R == kTileRows && sizeof(S) == 4;
  const int wide = (p.columns + kWideColumns - 1) / kWideColumns * slots;
  if (kMayBeWide && wide >= threads() / kLanes)  // else warps would have nothing to do
    for_tiles<kWideColumns>(p, slots, [&](int slot, int column) {
      multiply_tile<R, kMayBeWide ? kWideColumns : kTileColumns>(p, part, slot, column);
    });
  else
    for_tiles<kTileColumns>(p, slots, [&](int slot, int column) {
      multiply_tile<R, kTileColumns>(p, part, slot, column);
    });
}

// ---- with tensor cores --------------------------------------------------------------------------

// How tensor cores take float32.
template <class S> struct TensorType {
  using Tag = S;
};
template <> struct TensorType<float> {
  using Tag = Tf32;
};

template <int N> FASTRNN_DEVICE void round_to(Tf32, uint32_t (&bits)[N]) {
  FASTRNN_UNROLL
  for (int i = 0; i < N; ++i) bits[i] = bits_of(round_to_tf32(float_of(bits[i])));
}
template <class Tag, int N> FASTRNN_DEVICE void round_to(Tag, uint32_t (&)[N]) {}

// A warp's 16 columns and 8 * N rows, from `row` on, over the chunks of a slot. The columns are the
// M of the instruction, the rows its N.
template <int N, class S> FASTRNN_DEVICE void multiply_tensor_tile(const Product<S>& p,
                                                                   const Staging<S>& part, int slot,
                                                                   int column, int row) {
  using Tag = typename TensorType<S>::Tag;
  constexpr int kHalf = 16 / sizeof(S), kStep = kStepBytes / sizeof(S);
  const int lane = thread() % kLanes;
  // The rows of the four matrices of the weights: columns from 0 and from 8, of both halves of a
  // step; and of the two matrices of the staged rows.
  const int mine = column + lane % 16, w_column = mine < p.columns ? mine : p.columns - 1;
  const S* w = part.weights + w_column * part.weights_stride + lane / 16 * kHalf;
  const S* x = part.staged + (row + lane % 8) * p.grid.staged_stride + lane / 8 % 2 * kHalf;
  const auto sum_of = [&](int begin, int end, float (&sum)[4 * N]) {
    float d[N][4] = {};
    for (int k = begin; k < end; k += kStep) {
      uint32_t a[4];
      load_matrices(a, w + k, "product: weights are loaded");
      round_to(Tag{}, a);
      FASTRNN_UNROLL
      for (int n = 0; n < N; ++n) {
        uint32_t b[2];
        load_matrices(b, x + 8 * n * p.grid.staged_stride + k, "product: rows are loaded");
        round_to(Tag{}, b);
        multiply_add(Tag{}, d[n], a, b, "product: tensor cores multiply");
      }
    }
    FASTRNN_UNROLL
    for (int i = 0; i < 4 * N; ++i) sum[i] = d[i / 4][i % 4];
  };
  add_chunks<4 * N>(p, part, slot, sum_of, [&](int i) -> float* {
    const int c = column + lane / 4 + i % 4 / 2 * 8, r = row + i / 4 * 8 + lane % 4 * 2 + i % 2;
    return c < p.columns ? p.sums + (slot * part.rows + r) * p.columns + c : nullptr;
  });
}

template <int N, class S>
FASTRNN_DEVICE void multiply_tensor_tiles(const Product<S>& p, const Staging<S>& part, int slots) {
  const int of_rows = part.rows / (8 * N);
  for_tiles<kTensorColumns>(p, slots * of_rows, [&](int i, int column) {
    multiply_tensor_tile<N>(p, part, i / of_rows, column, i % of_rows * 8 * N);
  });
}

// As many rows for a warp as leave every warp something to do: it loads the weights once for all.
template <class S> FASTRNN_DEVICE void multiply_with_tensor_cores(const Product<S>& p,
                                                                  const Staging<S>& part,
                                                                  int slots) {
  const int warps = threads() / kLanes, tiles = part.rows / 8;
  const int each = (p.columns + kTensorColumns - 1) / kTensorColumns * slots;
  if (tiles == 4 && each >= warps)
    multiply_tensor_tiles<4>(p, part, slots);
  else if (tiles >= 2 && each * tiles / 2 >= warps)
    multiply_tensor_tiles<2>(p, part, slots);
  else
    multiply_tensor_tiles<1>(p, part, slots);
}

// ---- all of k -----------------------------------------------------------------------------------

// Rows of a tile, `count` of them given, as the product takes them.
template <class S> FASTRNN_DEVICE int rows_of(const Product<S>& p, int count) {
  return p.grid.tensor ? p.grid.tile_rows : rows_of_tile(count);
}

template <class S>
FASTRNN_DEVICE void multiply_staged(const Product<S>& p, const Staging<S>& part, int slots) {
  if constexpr (kHasTensorCores<typename TensorType<S>::Tag>)
    if (p.grid.tensor) {
      multiply_with_tensor_cores(p, part, slots);
      return;
    }
  if constexpr (sizeof(S) == 4 || kMayLackTensorCores<typename TensorType<S>::Tag>)
    switch (part.rows) {
      case 1: multiply_rows<1>(p, part, slots); break;
      case 4: multiply_rows<4>(p, part, slots); break;
      default: multiply_rows<kTileRows>(p, part, slots);
    }
}

// The product for `count` rows (at most a tile's). stage(begin, n, rows) brings part of k of so
// many rows to `staged`, and load_weights(to, stride, begin, n) those weights that are not
// resident. Everyone of the block takes part; the sums may be read after the caller's next
// sync_block.
template <class S, class Stage, class LoadWeights>
FASTRNN_DEVICE PartialSums multiply(const Product<S>& p, const S* staged, int count, Stage stage,
                                    LoadWeights load_weights) {
  const Grid& grid = p.grid;
  const int rows = rows_of(p, count);
  PartialSums sums{p.sums, rows, p.columns, 0};
  FASTRNN_ROLLED
  for (int begin = 0; begin < grid.k; begin += grid.staged) {
    const int n = grid.k - begin < grid.staged ? grid.k - begin : grid.staged;
    if (begin > 0) {
      sync_block("product: what was staged is used");
      if (sums.slots > 1)  // into the first slot, from which the next chunk goes on
        for (int i = thread(); i < rows * p.columns; i += threads())
          p.sums[i] = sums(i / p.columns, i % p.columns);
    }
    stage(begin, n, rows);
    const bool streams = begin >= grid.resident;
    if (streams) load_weights(p.streamed, grid.staged_stride, begin, n);
    sync_block("product: the rows are staged");
    const S* const weights = streams ? p.streamed : p.weights + begin;
    const int stride = streams ? grid.staged_stride : grid.resident_stride;
    const int chunks = (n + grid.chunk - 1) / grid.chunk;
    sums.slots = chunks < grid.slots ? chunks : grid.slots;
    multiply_staged(p, Staging<S>{begin, n, rows, staged, weights, stride}, sums.slots);
  }
  return sums;
}

}  // namespace gpu
}  // namespace fastrnn
