// The products of a step of forward, with weights packed by ProductEntry::pack_gates: what the rows
// of x, h and v become, and where panels begin.
#pragma once

#include "kernel_table.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T> struct GateProduct {
  const ProductEntry& entry;
  const int shift;  // of a lane's values, a power of 2: a division would be a part of a small step

  explicit GateProduct(const ProductEntry& e) : entry(e), shift(__builtin_ctz(e.lane_values)) {}

  int64_t lanes(int64_t K) const { return (K + entry.lane_values - 1) >> shift; }
  // The panel of weights (K is that of args) that begins so many rows in, and the scales of those.
  void set_panel(const void* packed, const void* scales, int64_t rows, TileArgs<T>* args) const {
    args->b = static_cast<const char*>(packed) + rows * lanes(args->K) * entry.lane_bytes;
    args->scales = scales ? static_cast<const T*>(scales) + rows : nullptr;
  }

  // Tiles of R rows, of several panels of N vectors side by side.
  FASTRNN_INLINE void run(int R, int N, int panels, TileArgs<T>* args) const {
    const auto tile = reinterpret_cast<TileOf<T>>(entry.tile(R, N, panels, args->chains));
    tile(*args);
    if (R == 1) return;  // which takes all panels at once
    const void* const first = args->b;
    for (int p = 1; p < panels; ++p) {
      args->b = static_cast<const char*>(args->b) + args->panel_step * entry.lane_bytes;
      args->offset += N * Vec<T>::kLanes;
      tile(*args);
    }
    args->b = first, args->offset = 0;
  }

  // Where the factors of a row are among copies.
  char* copy_at(char* copies, int64_t row, int64_t n) const {
    return copies + row * entry.factor_bytes(n);
  }
  // The factors of a row: itself where they may be, or that copy.
  template <class S>
  const void* factors(const S* row, const S* mask, int64_t n, char* copies, int64_t place) const {
    if (!mask && !entry.copies) return row;
    return entry.factors(row, mask, n, 0, copy_at(copies, place, n));
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
