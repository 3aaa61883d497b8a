// The workspace of a backward pass: what all parts share, and what a part has for itself.
#pragma once

#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// The gradients of the gates (planes of H values, see Planes) of all rows, by scan step: a ring of
// one more step than a chunk has, so that the step after the chunk is still there when the chunk
// begins.
template <class T> struct GateGradients {
  T* base;
  int64_t steps, B, width;

  FASTRNN_INLINE T* row(int64_t s, int64_t position) const {
    return base + ((s % steps) * B + position) * width;
  }
};

// One row of one step of a chunk: what dx and the weight gradients are made of.
template <class Storage> struct ChunkRow {
  const Acc<Storage>* dgates;
  const Storage *x, *mask, *h;
  Storage* dx;
  int64_t k;  // the row's index among all rows of the chunk: its k in the product dgates' x
};

template <class Cell, class Storage> struct BackwardMemory {
  using T = Acc<Storage>;
  static constexpr int L = Vec<T>::kLanes, S = Cell::kStates;
  static constexpr int kPlanes = Planes<Cell>::kCount;
  static constexpr int kPanel = kMaxVectors * L;  // columns of a matrix panel
  static constexpr int kRows = kMatrixRows;
  static constexpr int kTogether = 8;  // rows, or blocks of rows, that are packed at a time
  static constexpr int kPackedRows = (kTogether * kRows + L - 1) / L * L;  // their planes

  // Shared by all parts.
  T* dgates;    // [chunk + 1][B][planes][H]; see GateGradients
  T* ds[S];     // [B][H], the gradients of the states on their way to the step before
  T* packed_b;  // columns of x, then of h: [panel][k][vector][lane]
  // The part's own: the rows of a step ...
  const Storage **dy, **saved, **x, **mask;
  Storage** dx;
  PerState<ConstRows, Storage> before, after;
  int64_t* continuing;  // [rows], the rows whose chain goes on, then those where it starts
  // ... and of all steps of the chunk.
  ChunkRow<Storage>* chunk_rows;
  T* packed_a;                           // [kTogether blocks of kRows rows of dW][k][kRows]
  T* zeros;                              // [zeros_size()]
  PerState<Values, Storage> zero_state;  // [H]

  static int64_t packed_b_size(int64_t n, int64_t k) { return blocks_of(n, L) * L * k; }

  // A panel, or whole vectors of a row.
  static int64_t zeros_size(int64_t H) { return max(kPanel, blocks_of(H, L) * L); }

  // Both return the bytes that they take from `base`; where that is null, they only count.
  int64_t carve_shared(char* base, int64_t I, int64_t H, int64_t B, int64_t chunk) {
    Carver c{base};
    // WeightGradients::pack_a reads whole vectors: room for some past the end.
    dgates = c.take<T>((chunk + 1) * B * kPlanes * H + kPackedRows);
    for (int k = 0; k < S; ++k) ds[k] = c.take<T>(B * H);
    packed_b = c.take<T>(packed_b_size(I, chunk * B) + packed_b_size(H, chunk * B));
    return c.used;
  }
  int64_t carve_own(char* base, int64_t H, int64_t B, int64_t rows, int64_t chunk) {
    Carver c{base};
    dy = c.take<const Storage*>(rows);
    saved = c.take<const Storage*>(rows);
    x = c.take<const Storage*>(rows);
    mask = c.take<const Storage*>(rows);
    dx = c.take<Storage*>(rows);
    each_state<S>([&](auto k) {
      c.take_to(rows, &after.at(k));
      c.take_to(rows, &before.at(k));
      c.take_to(H, &zero_state.at(k));
    });
    continuing = c.take<int64_t>(rows);
    chunk_rows = c.take<ChunkRow<Storage>>(rows * chunk);
    packed_a = c.take<T>(kTogether * kRows * chunk * B);
    zeros = c.take<T>(zeros_size(H));
    return c.used;
  }

  static BackwardMemory of(const BackwardPass& p, const ThreadWork& work) {
    BackwardMemory memory;
    memory.carve_shared(static_cast<char*>(p.shared), p.I, p.H, p.scan->B, p.chunk);
    memory.carve_own(static_cast<char*>(p.scratch) + work.member * p.scratch_stride, p.H, p.scan->B,
                     work.row_end - work.row_begin, p.chunk);
    fill_n(memory.zeros, zeros_size(p.H), T(0));
    each_state<S>([&](auto k) { clear_n(memory.zero_state.at(k), p.H); });
    return memory;
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
