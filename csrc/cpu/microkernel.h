// The one GEMM tile of the engine (TileArgs): R rows by N vectors of accumulators that stay in
// registers. What it multiplies is in simd/factors.h: k is there in lanes of one value, or of more.
// Each element is one FMA chain in order of k (or a fixed number of them, below) whatever the
// tile's shape, so results do not depend on how rows and units are cut into tiles. Bound: R * N
// FMAs per k against N vector and R broadcast loads; with 2 FMAs a cycle a tile of 6 x 4 (32
// registers) or 6 x 2 (16) is bound by arithmetic as long as b comes from L2 or nearer (N vectors
// per R * N / 2 cycles). 3 x 4 would be too, but wants twice the bandwidth, and a panel of four
// vectors and 256 k fills an L1 of 32 KiB alone.
//
// One row alone has too few chains to fill the FMA units, each of which waits for its last result.
// So its tile takes several panels at once, and where the whole product is narrower than that, each
// sum is cut into `chains` pieces of k that are added in order; see chains_for().
#pragma once

#include "../simd/factors.h"
#include "kernel_table.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Vectors of a panel: of one whose width is free, and of the widest, since three gates are one
// panel.
constexpr int kPanelVectors = kRegisters / 8;
constexpr int kMaxVectors = kPanelVectors > 3 ? kPanelVectors : 3;
// Vectors that several rows compute at once, of one panel or more.
constexpr int kMostVectors = 4;

FASTRNN_INLINE constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
FASTRNN_INLINE constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

// Rows of the largest tile with n vectors that fits the registers: beside its sums there are the
// vectors of a lane, a factor, and the constants of the product.
constexpr int rows_for(int n, int constants = 0) {
  return static_cast<int>(min((kRegisters - n - 1 - constants) / n, kMaxRows));
}
// That of rows and weights of a storage type.
template <class S> constexpr int rows_of_tile(int n) {
  return rows_for(n, Multiply<Factor<S>, S>::kMasks);
}
constexpr int kMatrixRows = rows_for(kPanelVectors);

// How many chains each sum of a product is split into (split-k) when a row of it has so many
// vectors: two FMA units with a latency of four cycles need eight chains in flight. It depends on
// nothing else, so that a row has the same bits in any batch.
constexpr int kBusyChains = 8;
constexpr int chains_for(int64_t vectors) {
  return vectors >= kBusyChains ? 1 : vectors > 2 ? 2 : 4;
}

// How many of `remaining` panels of N vectors are computed at once: by one row so many that its
// chains fill the units; by several one after the other, so that what is done for a tile beside its
// product is done for kMostVectors.
FASTRNN_INLINE int panels_at_once(bool one_row, int N, int chains, int64_t remaining) {
  const int most = one_row ? kBusyChains / (N * chains) : kMostVectors / N;
  return most >= 4 && remaining >= 4 ? 4 : most >= 2 && remaining >= 2 ? 2 : 1;
}

// The layout of the left-hand side a: row-major through one pointer a row, or packed as
// [lane of k][kMatrixRows], which puts the factors of one lane side by side.
enum class LhsLayout { kRows, kPacked };

// The left factors of a lane at p, and what a vector of right ones adds to a sum.
template <class A, class B, int part, bool last> struct Factors {
  using M = Multiply<A, B>;
  using Operand = typename M::Operand;
  static FASTRNN_INLINE Operand left(const A* p) {
    if constexpr (last) return M::template last<part>(p);
    return M::template left<part>(p);
  }
  static FASTRNN_INLINE Operand right(const Lane<B>* p) {
    return M::template right<part>(Lanes<B>::load(p));
  }
  // In a tile that leaves no register for a constant.
  static FASTRNN_INLINE Operand right_of_full(const Lane<B>* p) {
    if constexpr (M::kMasks) return M::template right_unmasked<part>(Lanes<B>::load(p));
    return right(p);
  }
};
template <class A, class B> using Sum = typename Multiply<A, B>::Sum;

// Adds a part of the products of a lane, R rows by N vectors. at: of the lane, in the rows a.
template <class A, class B, int part, bool last, int R, int N>
FASTRNN_INLINE void add_part(const A* const (&a)[R], int64_t at, const Lane<B>* b,
                             Sum<A, B> (&acc)[R][N]) {
  using F = Factors<A, B, part, last>;
  using Operand = typename F::Operand;
  constexpr int L = Vec<Acc<B>>::kLanes;
  // The smaller operand is held in registers, the larger one streams through one register.
  if constexpr (N <= R) {
    constexpr bool kFull = R * N + N + 1 >= kRegisters;
    Operand w[N];
    FASTRNN_UNROLL for (int v = 0; v < N; ++v) w[v] =
        kFull ? F::right_of_full(b + v * L) : F::right(b + v * L);
    FASTRNN_UNROLL for (int r = 0; r < R; ++r) {
      const Operand x = F::left(a[r] + at);
      FASTRNN_UNROLL for (int v = 0; v < N; ++v) acc[r][v] = F::M::add(acc[r][v], x, w[v]);
    }
  } else {
    Operand x[R];
    FASTRNN_UNROLL for (int r = 0; r < R; ++r) x[r] = F::left(a[r] + at);
    FASTRNN_UNROLL for (int v = 0; v < N; ++v) {
      const Operand w = F::right(b + v * L);
      FASTRNN_UNROLL for (int r = 0; r < R; ++r) acc[r][v] = F::M::add(acc[r][v], x[r], w);
    }
  }
}
template <class A, class B, bool last, int R, int N>
FASTRNN_INLINE void add_lane(const A* const (&a)[R], int64_t at, const Lane<B>* b,
                             Sum<A, B> (&acc)[R][N]) {
  using M = Multiply<A, B>;
  constexpr int first = last ? M::kLastPart : 0;
  add_part<A, B, first, last>(a, at, b, acc);
  if constexpr (first + 1 < M::kParts) add_part<A, B, first + 1, last>(a, at, b, acc);
}

template <class A, class B, int R, int N, LhsLayout kLhs>
__attribute__((noinline)) void tile(const TileArgs<Acc<B>>& args) {
  using T = Acc<B>;
  using V = Vec<T>;
  using M = Multiply<A, B>;
  constexpr int L = V::kLanes, kValues = Lanes<B>::kValues;
  constexpr int64_t a_step = (kLhs == LhsLayout::kRows ? 1 : kMatrixRows) * kValues;
  Sum<A, B> acc[R][N];
  const A* a[R];
  T* out[R];
  const auto init = [&](int r, int v) {
    return ((args.shared >> v) & 1 ? args.shared_init : args.init[r]) + args.offset + v * L;
  };
  FASTRNN_UNROLL for (int r = 0; r < R; ++r) {
    a[r] = kLhs == LhsLayout::kRows ? M::values(args.a[r])
                                    : static_cast<const A*>(args.a[0]) + r * kValues;
    out[r] = args.out[r] + args.offset;
    FASTRNN_UNROLL for (int v = 0; v < N; ++v) acc[r][v] = M::begin(args.a[r], init(r, v));
  }
  const Lane<B>* b = static_cast<const Lane<B>*>(args.b);
  const int64_t b_step = args.b_step, lanes = lanes_of<B>(args.K);
  const int64_t whole = M::kWholeLanes ? lanes : args.K / kValues;
  const int chains = M::kExact || !M::kInPieces ? 1 : args.chains;
  int64_t k = 0;
  for (int chain = 0;; ++chain) {
    const bool ends = chain + 1 == chains;
    const int64_t end = ends ? whole : (chain + 1) * (lanes / chains);
    for (; k < end; ++k, b += b_step) add_lane<A, B, false>(a, k * a_step, b, acc);
    if constexpr (!M::kWholeLanes && kLhs == LhsLayout::kRows)
      if (ends && whole < lanes) add_lane<A, B, true>(a, k * a_step, b, acc);
    if constexpr (!M::kExact)
      if (chain > 0)
        FASTRNN_UNROLL for (int r = 0; r < R; ++r) FASTRNN_UNROLL for (int v = 0; v < N; ++v)
            acc[r][v] = V::load(out[r] + v * L) + acc[r][v];
    FASTRNN_UNROLL for (int r = 0; r < R; ++r) FASTRNN_UNROLL for (int v = 0; v < N; ++v)
        M::end(acc[r][v], args.a[r], init(r, v), args.scales, args.offset + v * L)
            .store(out[r] + v * L);
    if (ends) return;
    FASTRNN_UNROLL for (int r = 0; r < R; ++r) FASTRNN_UNROLL for (int v = 0; v < N; ++v)
        acc[r][v] = M::zero();
  }
}

// Adds the products of a lane of one row, with P panels of N vectors. Each vector is read once for
// all parts.
template <class A, class B, bool last, int N, int P>
FASTRNN_INLINE void add_lane_of_row(const A* a, const Lane<B>* b, int64_t panel_step,
                                    Sum<A, B> (&acc)[P * N]) {
  using M = Multiply<A, B>;
  using Operand = typename M::Operand;
  constexpr int L = Vec<Acc<B>>::kLanes;
  constexpr int kFirst = last ? M::kLastPart : 0, kSecond = M::kParts - 1;
  const Operand x = Factors<A, B, kFirst, last>::left(a);
  const Operand y = Factors<A, B, kSecond, last>::left(a);
  FASTRNN_UNROLL for (int p = 0; p < P; ++p) FASTRNN_UNROLL for (int v = 0; v < N; ++v) {
    const Operand w = Lanes<B>::load(b + p * panel_step + v * L);
    Sum<A, B>& sum = acc[p * N + v];
    sum = M::add(sum, x, M::template right<kFirst>(w));
    if constexpr (kFirst < kSecond) sum = M::add(sum, y, M::template right<kSecond>(w));
  }
}

// One row: P panels of N vectors, all pieces of the sums at once.
template <class A, class B, int N, int P, int kChains>
__attribute__((noinline)) void row_tile(const TileArgs<Acc<B>>& args) {
  using M = Multiply<A, B>;
  constexpr int L = Vec<Acc<B>>::kLanes, kValues = Lanes<B>::kValues;
  constexpr bool kOdd = !M::kWholeLanes;  // may the last lane have fewer values?
  Sum<A, B> acc[kChains][P * N];
  const auto init = [&](int v) {
    return ((args.shared >> v % N) & 1 ? args.shared_init : args.init[0]) + v * L;
  };
  FASTRNN_UNROLL for (int v = 0; v < P * N; ++v) {
    acc[0][v] = M::begin(args.a[0], init(v));
    FASTRNN_UNROLL for (int c = 1; c < kChains; ++c) acc[c][v] = M::zero();
  }
  const A* a = M::values(args.a[0]);
  const Lane<B>* b = static_cast<const Lane<B>*>(args.b);
  const int64_t b_step = args.b_step, panel_step = args.panel_step;
  const int64_t lanes = lanes_of<B>(args.K), whole = kOdd ? args.K / kValues : lanes;
  // (Where pieces are many and K is odd, the last lane of a piece may be that of one value.)
  const int64_t piece = lanes / kChains, side_by_side = min(piece, whole - (kChains - 1) * piece);
  for (int64_t k = 0; k < side_by_side; ++k)
    FASTRNN_UNROLL for (int c = 0; c < kChains; ++c) add_lane_of_row<A, B, false, N, P>(
        a + (c * piece + k) * kValues, b + (c * piece + k) * b_step, panel_step, acc[c]);
  if constexpr (kOdd)
    FASTRNN_UNROLL for (int c = 0; c + 1 < kChains; ++c) for (int64_t k = side_by_side; k < piece;
                                                              ++k)
        add_lane_of_row<A, B, false, N, P>(a + (c * piece + k) * kValues,
                                           b + (c * piece + k) * b_step, panel_step, acc[c]);
  for (int64_t k = (kChains - 1) * piece + side_by_side; k < whole; ++k)
    add_lane_of_row<A, B, false, N, P>(a + k * kValues, b + k * b_step, panel_step,
                                       acc[kChains - 1]);
  if constexpr (kOdd)
    if (whole < lanes)
      add_lane_of_row<A, B, true, N, P>(a + whole * kValues, b + whole * b_step, panel_step,
                                        acc[kChains - 1]);
  FASTRNN_UNROLL for (int c = 1; c < kChains; ++c) FASTRNN_UNROLL for (int v = 0; v < P * N; ++v)
      acc[0][v] = acc[0][v] + acc[c][v];
  FASTRNN_UNROLL for (int v = 0; v < P * N; ++v)
      M::end(acc[0][v], args.a[0], init(v), args.scales, v * L)
          .store(args.out[0] + v * L);
}

template <class B> using Tile = TileOf<Acc<B>>;

template <class A, class B, LhsLayout kLhs> struct Tiles {
  // R rows of several panels of N vectors, side by side in init and out.
  static FASTRNN_INLINE void run(int R, int N, int panels, TileArgs<Acc<B>>* args) {
    const Tile<B> tile = get(R, N, panels, args->chains);
    tile(*args);
    if (R == 1 && kLhs == LhsLayout::kRows) return;
    const void* const first = args->b;
    for (int p = 1; p < panels; ++p) {
      args->b = static_cast<const Lane<B>*>(args->b) + args->panel_step;
      args->offset += N * Vec<Acc<B>>::kLanes;
      tile(*args);
    }
    args->b = first, args->offset = 0;
  }

  // The tile for R rows and N vectors; for one row, of so many panels and chains. Not inline, so
  // that one unit can make what all cells share: see products.h.
  static Tile<B> get(int R, int N, int panels = 1, int chains = 1);
  template <int N> static Tile<B> with_vectors(int R, int panels, int chains);
  template <int N, int P> static Tile<B> of_row(int chains);
};

template <class A, class B, LhsLayout kLhs>
Tile<B> Tiles<A, B, kLhs>::get(int R, int N, int panels, int chains) {
  if (!Multiply<A, B>::kInPieces) chains = 1;
  switch (N) {
    case 1: return with_vectors<1>(R, panels, chains);
    case 2: return with_vectors<2>(R, panels, chains);
    case 3: return with_vectors<3>(R, panels, chains);
    default: return with_vectors<kMaxVectors>(R, panels, chains);
  }
}

template <class A, class B, LhsLayout kLhs> template <int N>
Tile<B> Tiles<A, B, kLhs>::with_vectors(int R, int panels, int chains) {
  static constexpr Tile<B> table[] = {
      tile<A, B, min(1, rows_for(N)), N, kLhs>, tile<A, B, min(2, rows_for(N)), N, kLhs>,
      tile<A, B, min(3, rows_for(N)), N, kLhs>, tile<A, B, min(4, rows_for(N)), N, kLhs>,
      tile<A, B, min(5, rows_for(N)), N, kLhs>, tile<A, B, min(6, rows_for(N)), N, kLhs>,
      tile<A, B, min(7, rows_for(N)), N, kLhs>, tile<A, B, min(8, rows_for(N)), N, kLhs>,
  };
  if constexpr (kLhs == LhsLayout::kRows)
    if (R == 1)
      return panels == 4   ? of_row<N, 4>(chains)
             : panels == 2 ? of_row<N, 2>(chains)
                           : of_row<N, 1>(chains);
  return table[R - 1];
}

template <class A, class B, LhsLayout kLhs> template <int N, int P>
Tile<B> Tiles<A, B, kLhs>::of_row(int chains) {
  constexpr int kMost = kBusyChains / N, kPanels = N == 1 ? 1 : min(P, kMost);
  constexpr int kChains = kMost / kPanels;
  return chains == 4   ? row_tile<A, B, N, kPanels, min(4, kChains)>
         : chains == 2 ? row_tile<A, B, N, kPanels, min(2, kChains)>
                       : row_tile<A, B, N, kPanels, 1>;
}

// Rows of the next tile when `remaining` are to be done and a tile takes at most `max_rows`: as
// even as possible, since a last tile of one row would leave most of the FMA units idle.
FASTRNN_INLINE int next_rows(int64_t remaining, int max_rows) {
  const int64_t tiles = (remaining + max_rows - 1) / max_rows;
  return static_cast<int>((remaining + tiles - 1) / tiles);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
