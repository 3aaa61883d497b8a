// The workspace of a backward pass: what all parts share, and what a part has for itself.
#pragma once

#include "back_product.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// The gradients of the gates (see GradientRow) of the rows of a chunk, in the order
// in which its steps are taken. The step that is taken last, the first in time, has a place apart,
// one of two in turn: so it is still there when the next chunk begins.
template <class T> struct GateGradients {
  T *chunk, *carry[2];  // [chunk_rows][GradientRow], [B][GradientRow]

  T* other_carry(const T* one) const { return carry[one == carry[0]]; }
};

// One row of one step of a chunk: what dx and the weight gradients are made of.
template <class Storage> struct ChunkRow {
  const Factor<Storage>* dgates;
  const Storage *x, *mask, *h;
  Storage* dx;
  int64_t k;  // the row's index among all rows of the chunk: its k in the product dgates' x
  int64_t position;
};

// Where the sums over steps are made that are the gradients of parameters; null where they are not
// wanted.
template <class Cell, class T> struct ParameterSums {
  T *dw_ih, *dw_hh, *dw_hr, *db_ih, *db_hh, *dw_diag;

  static constexpr int64_t G = Cell::kGates;
  static ParameterSums in_arrays(const BackwardPass& p) {
    const auto at = [](void* array) { return static_cast<T*>(array); };
    return {at(p.dw_ih), at(p.dw_hh), at(p.dw_hr), at(p.db_ih), at(p.db_hh), at(p.dw_diag)};
  }
  static int64_t size(int64_t I, int64_t H, int64_t P) {
    return G * H * (I + P + 2) + P * H + Cell::kUnit * H;
  }
  // Those of the pass, in memory of so many elements.
  static ParameterSums in_memory(const BackwardPass& p, T* memory) {
    const auto take = [&](const void* array, int64_t n) {
      T* at = array ? memory : nullptr;
      memory += n;
      return at;
    };
    const int64_t GH = G * p.H;
    return {take(p.dw_ih, GH * p.I), take(p.dw_hh, GH * p.P), take(p.dw_hr, p.P * p.H),
            take(p.db_ih, GH),       take(p.db_hh, GH),       take(p.dw_diag, Cell::kUnit * p.H)};
  }
};

template <class Cell, class Storage> struct BackwardMemory {
  using T = Acc<Storage>;
  using F = Factor<Storage>;
  static constexpr int L = Vec<T>::kLanes, S = Cell::kStates;
  static constexpr int kPhases = Phases<Cell>::kCount;
  static constexpr int kPanel = kPanelVectors * L;  // columns of a matrix panel
  static constexpr int kRows = kMatrixRows;
  static constexpr int kTogether = 8;  // rows, or blocks of rows, that are packed at a time
  static constexpr int kPackedRows = (kTogether * kRows + L - 1) / L * L;  // their planes

  // Shared by all parts.
  GateGradients<F> dgates;
  T* ds[S];  // [B][P], [B][H], the gradients of the states on their way to the step before
  // Columns of x, of the versions of h, then of v: [panel][lane of k][vector][lane].
  Lane<F>* packed_b;
  T* sums;  // of the gradients of parameters, where the caller's arrays are of another type
  // The part's own: the rows of a step ...
  const Storage **dy, **saved, **x, **mask;
  Storage** dx;
  PerState<ConstRows, Storage> before, after;
  int64_t* continuing;  // [rows], the rows whose chain goes on, then those where it starts
  int64_t* carried;     // which carry of dgates has the step after the window
  // ... and of all steps of the chunk.
  ChunkRow<Storage>* listed;
  Lane<F>* packed_a;                     // [kTogether blocks of kRows rows of dW][lane of k][kRows]
  F* apart;                              // rows of BackProduct::Chain::masked_tile
  T* zeros;                              // [zeros_size()]
  PerState<Values, Storage> zero_state;  // [P], [H]

  static int64_t packed_b_size(int64_t n, int64_t k) {
    return blocks_of(n, L) * L * lanes_of<F>(k);
  }

  // What a tile of several rows starts from, or whole vectors of a row.
  static int64_t zeros_size(int64_t H, int64_t P) {
    return max(kMostVectors * L, blocks_of(max(H, P), L) * L);
  }

  // Both return the bytes that they take from `base`; where that is null, they only count.
  int64_t carve_shared(char* base, const PassSizes& sizes) {
    const int64_t H = sizes.H, P = sizes.P, B = sizes.B, masks = sizes.recurrent_masks;
    Carver c{base};
    const int64_t width = GradientRow<Cell>{H, P}.width(), max_k = sizes.chunk_rows + B;
    // WeightGradients::pack_a reads whole vectors: room for some past the end.
    F* rows = c.take<F>((max_k + B) * width + kPackedRows);
    dgates = {rows + 2 * B * width, {rows, rows + B * width}};
    for (int k = 0; k < S; ++k) ds[k] = c.take<T>(B * (k == 0 ? P : H));
    int64_t columns = packed_b_size(sizes.I, max_k);
    columns += versions_of<Cell, 0>(masks) * packed_b_size(P, max_k);
    if (kPhases > 1) columns += versions_of<Cell, 1>(masks) * packed_b_size(H, max_k);
    packed_b = c.take<Lane<F>>(columns);
    sums = c.take<T>(is_same<Storage, T> ? 0 : ParameterSums<Cell, T>::size(sizes.I, H, P));
    return c.used;
  }
  int64_t carve_own(char* base, const PassSizes& sizes) {
    const int64_t H = sizes.H, P = sizes.P, rows = sizes.rows, max_k = sizes.chunk_rows + sizes.B;
    Carver c{base};
    dy = c.take<const Storage*>(rows);
    saved = c.take<const Storage*>(rows);
    x = c.take<const Storage*>(rows);
    mask = c.take<const Storage*>(rows);
    dx = c.take<Storage*>(rows);
    each_state<S>([&](auto k) {
      c.take_to(rows, &after.at(k));
      c.take_to(rows, &before.at(k));
      c.take_to(k.value == 0 ? P : H, &zero_state.at(k));
    });
    continuing = c.take<int64_t>(rows);
    carried = c.take<int64_t>(1);
    listed = c.take<ChunkRow<Storage>>(max_k);
    packed_a = c.take<Lane<F>>(kTogether * kRows * lanes_of<F>(max_k));
    const int64_t apart_rows = sizes.recurrent_masks > 1 ? kRows : 0;
    apart = c.take<F>(apart_rows * BackProduct<Cell, Storage>::apart_size(H));
    zeros = c.take<T>(zeros_size(H, P));
    return c.used;
  }

  static BackwardMemory of(const BackwardPass& p, const ThreadWork& work) {
    BackwardMemory memory;
    const PassSizes sizes = sizes_of(p, work.row_end - work.row_begin);
    memory.carve_shared(static_cast<char*>(p.shared), sizes);
    memory.carve_own(static_cast<char*>(p.scratch) + work.member * p.scratch_stride, sizes);
    fill_n(memory.zeros, zeros_size(p.H, p.P), T(0));
    each_state<S>([&](auto k) { clear_n(memory.zero_state.at(k), k.value == 0 ? p.P : p.H); });
    return memory;
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
