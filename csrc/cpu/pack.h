// Weights as the tiles read them. A unit block is `lanes` units.
//
// Gate panels (forward): those of U unit blocks, one or kPanels of them; each has for each lane of
// k (simd/factors.h) its vectors of [block][gate][lane]; K = I or H. Matrix panels (backward,
// weight gradients): panel of kPanelVectors vectors of columns, then lane of k, then
// [vector][lane]. The last panel holds fewer blocks (vectors); lanes past the end are 0, and so is
// what there is not of the last lane of k.
#pragma once

#include "microkernel.h"
#include "phases.h"

namespace fastrnn {
namespace FASTRNN_ISA {

FASTRNN_INLINE int64_t blocks_of(int64_t n, int64_t block) { return (n + block - 1) / block; }
// Where a vector is in panels of N vectors, in vectors, where k is so many lanes.
FASTRNN_INLINE int64_t vector_at(int64_t v, int64_t N, int64_t lanes) {
  return v / N * N * lanes + v % N;
}
// Where a member's part of n things begins, as even as possible.
FASTRNN_INLINE int64_t part(int64_t n, int member, int members) { return n * member / members; }

// Some elements of a vector; zeros where it is not given.
template <class S>
Vec<Acc<S>> vector_of(const StridedVector& vector, int64_t first, int64_t units) {
  using V = Vec<Acc<S>>;
  if (!vector.data) return V(Acc<S>(0));
  const S* v = static_cast<const S*>(vector.data);
  if (vector.stride == 1) return load_some(v + first, units);
  Acc<S> lanes[V::kLanes];
  for (int64_t lane = 0; lane < V::kLanes; ++lane)
    lanes[lane] = lane < units ? widen(v[(first + lane) * vector.stride]) : Acc<S>(0);
  return V::load(lanes);
}

// Rows of weights, of type S, as lanes of k.
template <class S> struct LanePacking {
  using T = Acc<S>;
  static constexpr int L = Vec<T>::kLanes, kValues = Lanes<S>::kValues;

  // A block of `units` rows of w becomes one vector per lane of k.
  static void pack_block(const S* w, int64_t row, int64_t col, int64_t units, int64_t K,
                         Lane<S>* out, int64_t step) {
    if (col == 1) {
      for (int64_t k = pack_strips(w, row, units, K, out, step); k * kValues < K; k += L)
        pack_square(w + k * kValues, row, units, min(L * kValues, K - k * kValues), out + k * step,
                    step);
      return;
    }
    if constexpr (kValues == 1)
      if (row == 1) {
        for (int64_t k = 0; k < K; ++k) store(load_some(w + k * col, units), out + k * step);
        return;
      }
    for (int64_t k = 0; k < lanes_of<S>(K) * kValues; ++k)
      for (int64_t lane = 0; lane < L; ++lane)
        Lanes<S>::at(out + k / kValues * step + lane, static_cast<int>(k % kValues)) =
            lane < units && k < K ? w[lane * row + k * col] : narrow<S>(T(0));
  }

  // Packs whole strips of columns, and returns how many lanes of k these are.
  static int64_t pack_strips(const S* w, int64_t row, int64_t units, int64_t K, Lane<S>* out,
                             int64_t step) {
    int64_t k = 0;
    for (; units == L && (k + kStrip<T>)*kValues <= K; k += kStrip<T>) {
      Vec<T> v[kStrip<T>];
      Lanes<S>::strip(w + k * kValues, row, v);
      FASTRNN_UNROLL for (int i = 0; i < kStrip<T>; ++i)
          Lanes<S>::store(v[i], out + (k + i) * step);
    }
    return k;
  }

  // Packs n columns, at most L lanes of k, that strips leave at an edge of the rows or of k.
  static void pack_square(const S* w, int64_t row, int64_t units, int64_t n, Lane<S>* out,
                          int64_t step) {
    Vec<T> v[L];
    for (int64_t lane = 0; lane < L; ++lane)
      v[lane] = lane < units ? Lanes<S>::of_row(w + lane * row, n) : Vec<T>(T(0));
    transpose(v);
    for (int64_t k = 0; k < lanes_of<S>(n); ++k) Lanes<S>::store(v[k], out + k * step);
  }
};

// The weights of a product of the step, of type W, as ProductEntry::pack_gates. Members pack blocks
// of their own, those of whole panels.
template <class W> void pack_gates(const GateLayout* layout, const StridedMatrix* matrix, int64_t H,
                                   int64_t K, int member, int members, void* out_) {
  constexpr int64_t L = Vec<Acc<W>>::kLanes;
  const int64_t G = layout->gates, U = layout->blocks, lanes = lanes_of<W>(K);
  const auto* w = static_cast<const Element<W>*>(matrix->data);
  const int64_t row = matrix->row_stride, col = matrix->col_stride;
  const int64_t blocks = blocks_of(H, L), groups = blocks_of(blocks, U);
  for (int64_t group = part(groups, member, members); group < part(groups, member + 1, members);
       ++group) {
    const int64_t first = group * U, width = min(U, blocks - first);
    const int64_t N = width * G / layout->panels;
    Lane<W>* out = static_cast<Lane<W>*>(out_) + first * G * L * lanes;
    for (int64_t u = 0; u < width; ++u)
      for (int64_t g = 0; g < G; ++g)
        LanePacking<W>::pack_block(w + (layout->gate[g] * H + (first + u) * L) * row, row, col,
                                   min(L, H - (first + u) * L), K,
                                   out + vector_at(u * G + g, N, lanes) * L, N * L);
  }
}

// What a product of the step has for each row of its weights, in blocks of units.
template <class Phase, class S> struct Packing {
  using T = Acc<S>;
  static constexpr int L = Vec<T>::kLanes;
  static constexpr int G = Phase::kGates;
  // Unit blocks that are computed together, as many as fill a panel; and their panels: two where
  // the gates of one block are too many for one.
  static constexpr int U = G >= kPanelVectors ? 1 : kPanelVectors / G;
  static constexpr int kPanels = U * G > kMaxVectors ? 2 : 1;
  static_assert(U * G / kPanels <= kMaxVectors && U * G % kPanels == 0, "gates fill panels");

  static constexpr GateLayout layout() {
    GateLayout made{G, {}, U, kPanels};
    for (int g = 0; g < G; ++g) made.gate[g] = Phase::gate(g);
    return made;
  }

  static void pack_bias(const StridedVector* b_ih, const StridedVector* b_hh, int64_t H,
                        void* bias_x_, void* bias_r_) {
    T* bias_x = static_cast<T*>(bias_x_);
    T* bias_r = static_cast<T*>(bias_r_);
    for (int64_t block = 0; block < blocks_of(H, L); ++block)
      for (int g = 0; g < G; ++g, bias_x += L, bias_r += L)
        pack_bias_of(*b_ih, *b_hh, H, block, g, bias_x, bias_r);
  }

  // The biases from which the chains of a block of units start, for one gate.
  static void pack_bias_of(const StridedVector& b_ih, const StridedVector& b_hh, int64_t H,
                           int64_t block, int g, T* bias_x, T* bias_r) {
    const int64_t first = Phase::gate(g) * H + block * L, units = min(L, H - block * L);
    const Vec<T> x = vector_of<S>(b_ih, first, units), r = vector_of<S>(b_hh, first, units);
    (Phase::is_split(g) ? x : x + r).store(bias_x);
    (Phase::is_split(g) ? r : Vec<T>(T(0))).store(bias_r);
  }
};

// A phase's gates in panels and tiles.
template <class Cell, int phase, class S> struct StepPanels : Phase<Cell, phase> {
  using Gates = Phase<Cell, phase>;
  using Pack = Packing<Gates, S>;
  static constexpr int G = Gates::kGates, U = Pack::U, kPanels = Pack::kPanels;
  static constexpr int kVectors = U * G / kPanels, kRows = rows_of_tile<S>(kVectors);
  // Of the vectors of a panel, those whose chain of r starts from a bias of its own.
  static constexpr unsigned split_vectors() {
    if (Gates::kIsProjection) return kAllVectors;
    unsigned mask = 0;
    for (int v = 0; v < U * G; ++v) mask |= unsigned{Gates::is_split(v % G)} << v;
    return mask;
  }
};

// The parameters of a unit: [unit blocks][kUnit][lanes].
template <class Cell, class S> struct UnitPacking {
  using T = Acc<S>;
  static constexpr int L = Vec<T>::kLanes;

  static void pack(const StridedVector* w, int64_t H, void* out) {
    for (int64_t block = 0; block < blocks_of(H, L); ++block)
      pack_block(*w, H, block, static_cast<T*>(out) + block * Cell::kUnit * L);
  }
  static void pack_block(const StridedVector& w, int64_t H, int64_t block, T* out) {
    for (int k = 0; k < Cell::kUnit; ++k)
      vector_of<S>(w, k * H + block * L, min(L, H - block * L)).store(out + k * L);
  }
};

// The weights as backward reads them: over (gate, unit), in the order of the planes.
template <class Cell, class S> struct MatrixPacking {
  using T = Acc<S>;
  static constexpr int L = Vec<T>::kLanes;
  static_assert(Cell::kStates <= kMaxStates, "a cell has at most two states");

  static constexpr int kValues = Lanes<S>::kValues;

  static int64_t size(int64_t K, int64_t N) {
    return blocks_of(N, L) * L * lanes_of<S>(K) * kValues;
  }

  // The gate whose rows of w are the i-th of a product's.
  static constexpr int gate_of(Product product, int i) {
    using Plane = Planes<Cell>;
    if (product == Product::kInput) return Plane::gate_of(i);
    if (product == Product::kFirst) return Plane::gate_of(Plane::kFirst + i);
    return Phases<Cell>::kProjects ? 0 : Plane::gate_of(Plane::kSplitGates + i);
  }
  static constexpr int gates_of(Product product) {
    return product == Product::kInput   ? Cell::kGates
           : product == Product::kFirst ? Phase<Cell, 0>::kGates
                                        : Phase<Cell, 1>::kGates;
  }

  // Members pack lanes of rows of their own.
  static void pack(const StridedMatrix* matrix, int64_t H, int64_t N, Product product, int member,
                   int members, void* out_) {
    const S* w = static_cast<const S*>(matrix->data);
    const int64_t K = gates_of(product) * H, lanes = lanes_of<S>(K);
    const int64_t end = part(lanes, member + 1, members) * kValues;
    for (int64_t k = part(lanes, member, members) * kValues; k < end; ++k) {
      const int gate = gate_of(product, static_cast<int>(k / H));
      const S* from = k < K ? w + (gate * H + k % H) * matrix->row_stride : nullptr;
      for (int64_t n0 = 0; n0 < N; n0 += kPanelVectors * L) {
        const int64_t width = min(kPanelVectors * L, N - n0), step = blocks_of(width, L) * L;
        Lane<S>* out = static_cast<Lane<S>*>(out_) + n0 * lanes + k / kValues * step;
        pack_row(from, from ? matrix->col_stride : 0, n0, width, step, out,
                 static_cast<int>(k % kValues));
      }
    }
  }

  // Columns [n0, n0 + width) of a row, as value i of lanes; without a row, zeros.
  static FASTRNN_INLINE void pack_row(const S* from, int64_t col, int64_t n0, int64_t width,
                                      int64_t step, Lane<S>* out, int i) {
    const S zero = narrow<S>(T(0));
    if (col == 1)
      for (int64_t n = 0; n < width; ++n) Lanes<S>::at(out + n, i) = from[n0 + n];
    else
      for (int64_t n = 0; n < width; ++n)
        Lanes<S>::at(out + n, i) = from ? from[(n0 + n) * col] : zero;
    for (int64_t n = width; n < step; ++n) Lanes<S>::at(out + n, i) = zero;
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
