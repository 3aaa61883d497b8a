// Weights as the tiles read them. A unit block is `lanes` units.
//
// Gate panels (forward):  panel of U unit blocks, then k, then [block][gate][lane]; K = I or H.
// Matrix panels (backward, weight gradients): panel of 4 vectors of columns, then k, then
// [vector][lane]. The last panel holds fewer blocks (vectors); lanes past the end are 0.
#pragma once

#include "../cells/gates.h"
#include "kernel_table.h"
#include "microkernel.h"

namespace fastrnn {
namespace FASTRNN_ISA {

FASTRNN_INLINE int64_t blocks_of(int64_t n, int64_t block) { return (n + block - 1) / block; }
// Where a member's part of n things begins, as even as possible.
FASTRNN_INLINE int64_t part(int64_t n, int member, int members) { return n * member / members; }

// The order of the gradient planes: x parts of the split gates, the whole gates, r parts of the
// split ones. So both dx = dgates W and dh = dgates R read one contiguous range of planes.
template <class Cell> struct Planes {
  static constexpr int split_count() {
    int n = 0;
    for (int g = 0; g < Cell::kGates; ++g) n += (Cell::kSplit >> g) & 1;
    return n;
  }
  static constexpr int kSplitGates = split_count();
  static constexpr int kCount = Cell::kGates + kSplitGates;
  // With those of the parameters of a unit, which come last and go into no product.
  static constexpr int kAll = kCount + Cell::kUnit;
  static constexpr bool is_split(int gate) { return (Cell::kSplit >> gate) & 1; }
  // Plane that holds the x part (the whole, if not split) of a gate.
  static constexpr int of_x(int gate) {
    int split = 0, whole = 0;
    for (int g = 0; g < gate; ++g) ++(is_split(g) ? split : whole);
    return is_split(gate) ? split : kSplitGates + whole;
  }
  static constexpr int of_r(int gate) {
    return is_split(gate) ? Cell::kGates + of_x(gate) : of_x(gate);
  }
  // Inverse of both.
  static constexpr int gate_of(int plane) {
    for (int g = 0; g < Cell::kGates; ++g)
      if (of_x(g) == plane || of_r(g) == plane) return g;
    return -1;
  }
};

// The gates of a block of units, out of its chains before h (x) and after it (r): a gate that is
// not split has one chain.
template <class V, class Cell> using Gates = Pack<V, Cell::kGates + Cell::kUnit>;
template <class Cell, class T, class V>
FASTRNN_INLINE void load_gates(const T* x, const T* r, Gates<V, Cell>* xs, Gates<V, Cell>* rs) {
  for (int g = 0; g < Cell::kGates; ++g) {
    (*rs)[g] = V::load(r + g * V::kLanes);
    (*xs)[g] = Planes<Cell>::is_split(g) ? V::load(x + g * V::kLanes) : (*rs)[g];
  }
}

// The parameters of a block of units, which follow its gates.
template <class Cell, class V, class T>
FASTRNN_INLINE void load_diag(const T* panels, int64_t block, Gates<V, Cell>* xs) {
  for (int k = 0; k < Cell::kUnit; ++k)
    (*xs)[Cell::kGates + k] = V::load(panels + (block * Cell::kUnit + k) * V::kLanes);
}

// Weights are packed as they are stored; S is their type.
template <class Cell, class S> struct Packing {
  using T = Acc<S>;
  static constexpr int L = Vec<T>::kLanes;
  static constexpr int G = Cell::kGates;
  // Unit blocks of a gate panel: as many as fill the tile's four vectors.
  static constexpr int U = G >= kMaxVectors ? 1 : kMaxVectors / G;
  static_assert(G <= kMaxVectors, "a cell has at most four gates");
  static_assert(Cell::kStates <= kMaxStates, "a cell has at most two states");

  static int64_t gates_size(int64_t H, int64_t K) { return blocks_of(H, L) * L * G * K; }
  static int64_t matrix_size(int64_t K, int64_t N) { return blocks_of(N, L) * L * K; }

  // Members pack panels of their own.
  static void pack_gates(const StridedMatrix* matrix, int64_t H, int64_t K, int member, int members,
                         void* out_) {
    const S* w = static_cast<const S*>(matrix->data);
    const int64_t row = matrix->row_stride, col = matrix->col_stride;
    const int64_t blocks = blocks_of(H, L), panels = blocks_of(blocks, U);
    for (int64_t panel = part(panels, member, members); panel < part(panels, member + 1, members);
         ++panel) {
      const int64_t first = panel * U, width = min(U, blocks - first), step = width * G * L;
      S* out = static_cast<S*>(out_) + first * G * L * K;
      for (int64_t u = 0; u < width; ++u)
        for (int64_t g = 0; g < G; ++g)
          pack_block(w + (g * H + (first + u) * L) * row, row, col, min(L, H - (first + u) * L), K,
                     out + (u * G + g) * L, step);
    }
  }

  // A block of `units` rows of w becomes one vector per k.
  static void pack_block(const S* w, int64_t row, int64_t col, int64_t units, int64_t K, S* out,
                         int64_t step) {
    if (col == 1)
      for (int64_t k = pack_strips(w, row, units, K, out, step); k < K; k += L)
        pack_square(w + k, row, units, min(L, K - k), out + k * step, step);
    else if (row == 1)
      for (int64_t k = 0; k < K; ++k) store(load_some(w + k * col, units), out + k * step);
    else
      for (int64_t k = 0; k < K; ++k)
        for (int64_t lane = 0; lane < L; ++lane)
          out[k * step + lane] = lane < units ? w[lane * row + k * col] : narrow<S>(T(0));
  }

  // Packs whole strips of columns, and returns how many columns these are.
  static int64_t pack_strips(const S* w, int64_t row, int64_t units, int64_t K, S* out,
                             int64_t step) {
    int64_t k = 0;
    for (; units == L && k + kStrip<T> <= K; k += kStrip<T>) {
      Vec<T> v[kStrip<T>];
      Stored<S>::strip(w + k, row, v);
      FASTRNN_UNROLL for (int i = 0; i < kStrip<T>; ++i) store(v[i], out + (k + i) * step);
    }
    return k;
  }

  // Packs what strips leave at an edge of the rows or of k.
  template <class Out> static void pack_square(const S* w, int64_t row, int64_t units, int64_t n,
                                               Out* out, int64_t step) {
    Vec<T> v[L];
    for (int64_t lane = 0; lane < L; ++lane)
      v[lane] = lane < units ? load_some(w + lane * row, n) : Vec<T>(T(0));
    transpose(v);
    for (int64_t k = 0; k < n; ++k) store(v[k], out + k * step);
  }

  // Members pack rows of their own.
  static void pack_matrix(const StridedMatrix* matrix, int64_t H, int64_t N, int recurrent,
                          int member, int members, void* out_) {
    const S* w = static_cast<const S*>(matrix->data);
    const int64_t col = matrix->col_stride;
    const int first = recurrent ? Planes<Cell>::kSplitGates : 0;
    for (int64_t k = part(G * H, member, members); k < part(G * H, member + 1, members); ++k) {
      const int gate = Planes<Cell>::gate_of(first + static_cast<int>(k / H));
      const S* from = w + (gate * H + k % H) * matrix->row_stride;
      for (int64_t n0 = 0; n0 < N; n0 += kMaxVectors * L) {
        const int64_t width = min(kMaxVectors * L, N - n0), step = blocks_of(width, L) * L;
        S* out = static_cast<S*>(out_) + n0 * G * H + k * step;
        if (col == 1)
          for (int64_t n = 0; n < width; ++n) out[n] = from[n0 + n];
        else
          for (int64_t n = 0; n < width; ++n) out[n] = from[(n0 + n) * col];
        for (int64_t n = width; n < step; ++n) out[n] = narrow<S>(T(0));
      }
    }
  }

  static void pack_bias(const StridedVector* b_ih, const StridedVector* b_hh, int64_t H,
                        void* bias_x_, void* bias_r_) {
    T* bias_x = static_cast<T*>(bias_x_);
    T* bias_r = static_cast<T*>(bias_r_);
    for (int64_t block = 0; block < blocks_of(H, L); ++block)
      for (int g = 0; g < G; ++g, bias_x += L, bias_r += L)
        pack_bias_of(*b_ih, *b_hh, H, block, g, bias_x, bias_r);
  }

  static void pack_diag(const StridedVector* w, int64_t H, void* out_) {
    T* out = static_cast<T*>(out_);
    for (int64_t block = 0; block < blocks_of(H, L); ++block) {
      pack_diag_of(*w, H, block, out);
      out += Cell::kUnit * L;
    }
  }
  static void pack_diag_of(const StridedVector& w, int64_t H, int64_t block, T* out) {
    for (int k = 0; k < Cell::kUnit; ++k)
      vector_of(w, k * H + block * L, min(L, H - block * L)).store(out + k * L);
  }

  // The biases from which the chains of a block of units start, for one gate.
  static void pack_bias_of(const StridedVector& b_ih, const StridedVector& b_hh, int64_t H,
                           int64_t block, int g, T* bias_x, T* bias_r) {
    const int64_t first = g * H + block * L, units = min(L, H - block * L);
    const Vec<T> x = vector_of(b_ih, first, units), r = vector_of(b_hh, first, units);
    (Planes<Cell>::is_split(g) ? x : x + r).store(bias_x);
    (Planes<Cell>::is_split(g) ? r : Vec<T>(T(0))).store(bias_r);
  }
  // Some elements of a vector; zeros where it is not given.
  static Vec<T> vector_of(const StridedVector& vector, int64_t first, int64_t units) {
    if (!vector.data) return Vec<T>(T(0));
    const S* v = static_cast<const S*>(vector.data);
    if (vector.stride == 1) return load_some(v + first, units);
    T lanes[L];
    for (int64_t lane = 0; lane < L; ++lane)
      lanes[lane] = lane < units ? widen(v[(first + lane) * vector.stride]) : T(0);
    return Vec<T>::load(lanes);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
