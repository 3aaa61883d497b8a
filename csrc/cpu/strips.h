// The product of a single step with weights as they lie (step.h): a strip of kStrip columns of L
// rows of a matrix becomes lanes in registers, and is multiplied at once.
#pragma once

#include "kernel_table.h"
#include "microkernel.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Storage> struct Strips {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using M = Multiply<Storage, Storage>;
  static constexpr int L = V::kLanes, kValues = Lanes<Storage>::kValues;
  static constexpr int kColumns = kStrip<T> * kValues;

  // Continues the sums of some rows a with n columns of the vectors at w, whose rows are `row`
  // elements apart; the sums of two rows are `step` apart.
  using Add = void (*)(const Storage* const* w, int64_t row, const Storage* const* a, int64_t n,
                       int64_t step, T* sums);

  // Of so many rows and one vector. Not inline, as Tiles::get.
  static Add get(int rows);
  // Two vectors at a time, since one row alone has too few chains.
  static Add one_row_of_two();

  // R rows of C vectors.
  template <int R, int C>
  __attribute__((noinline)) static void add(const Storage* const* w_, int64_t row,
                                            const Storage* const* a_, int64_t n, int64_t step,
                                            T* sums) {
    const Storage *w[C], *a[R];
    V acc[R][C];
    FASTRNN_UNROLL for (int c = 0; c < C; ++c) w[c] = w_[c];
    FASTRNN_UNROLL for (int r = 0; r < R; ++r) {
      a[r] = a_[r];
      FASTRNN_UNROLL for (int c = 0; c < C; ++c) acc[r][c] = V::load(sums + r * step + c * L);
    }
    for (int64_t k = 0; k < n; k += kColumns) FASTRNN_UNROLL for (int c = 0; c < C; ++c) {
        V columns[kStrip<T>];
        if (k % kLine == 0) prefetch(w[c] + k + kLine, row);
        Lanes<Storage>::strip(w[c] + k, row, columns);
        FASTRNN_UNROLL for (int i = 0; i < kStrip<T>; ++i)
            FASTRNN_UNROLL for (int r = 0; r < R; ++r) acc[r][c] =
                add_in_lane(acc[r][c], a[r] + k + i * kValues, columns[i]);
      }
    FASTRNN_UNROLL for (int r = 0; r < R; ++r) FASTRNN_UNROLL for (int c = 0; c < C; ++c) acc[r][c]
        .store(sums + r * step + c * L);
  }

  // Adds the products of a lane, whose values of a row begin at a.
  static FASTRNN_INLINE V add_in_lane(V sum, const Storage* a, V lanes) {
    sum = M::add(sum, M::template left<0>(a), M::template right<0>(lanes));
    if constexpr (M::kParts > 1)
      sum = M::add(sum, M::template left<1>(a), M::template right<1>(lanes));
    return sum;
  }
  static FASTRNN_INLINE V add_last_lane(V sum, const Storage* a, V lanes) {
    constexpr int part = M::kLastPart;
    return M::add(sum, M::template last<part>(a), M::template right<part>(lanes));
  }

  // Prefetches the rows' next cache lines: a processor follows fewer streams by itself.
  static constexpr int64_t kLine = 64 / sizeof(Storage);
  static FASTRNN_INLINE void prefetch(const Storage* w, int64_t row) {
    for (int lane = 0; lane < L; ++lane) __builtin_prefetch(w + lane * row);
  }
};

template <class Storage> typename Strips<Storage>::Add Strips<Storage>::get(int rows) {
  static constexpr Add table[kStepRows] = {add<1, 1>, add<2, 1>, add<3, 1>, add<4, 1>,
                                           add<5, 1>, add<6, 1>, add<7, 1>, add<8, 1>};
  return table[rows - 1];
}
template <class Storage> typename Strips<Storage>::Add Strips<Storage>::one_row_of_two() {
  return add<1, 2>;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
