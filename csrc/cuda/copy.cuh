// Copies from global memory by all threads of a block, with several loads of each on their way at
// once: one alone would wait for memory some 0.6 microseconds a turn.
#pragma once

#include "gpu.h"

namespace fastrnn {
namespace gpu {

// The cells of a table of n columns, one at least, that are one thread's or warp's, `step` apart
// from the first on; with two divisions for all of them.
struct Cells {
  int n, row, column, rows_on, columns_on;

  FASTRNN_DEVICE Cells(int columns, int first, int step)
      : n(columns),
        row(first / columns),
        column(first % columns),
        rows_on(step / columns),
        columns_on(step % columns) {}
  FASTRNN_DEVICE void next() {
    row += rows_on, column += columns_on;
    if (column >= n) column -= n, ++row;
  }
};

// store(row, column, load(row, column)) for every cell of a table, N loads at a time. (Loads and
// stores are apart because the compiler cannot know that a store changes nothing that is loaded
// after it.)
template <int N, class Load, class Store>
FASTRNN_DEVICE void copy_in_flight(int rows, int columns, Load load, Store store) {
  Cells cell(columns, thread(), threads());
  FASTRNN_ROLLED
  while (cell.row < rows) {
    // Set to something: else registers that are written on a condition would be kept for ever.
    decltype(load(0, 0)) values[N] = {};
    Cells from = cell;
    FASTRNN_UNROLL
    for (int j = 0; j < N; ++j, from.next())
      if (from.row < rows) values[j] = load(from.row, from.column);
    FASTRNN_UNROLL
    for (int j = 0; j < N; ++j, cell.next())
      if (cell.row < rows) store(cell.row, cell.column, values[j]);
  }
}

// Part of rows of H values.
struct RowPart {
  int64_t H;
  int begin, n;
  bool quads;  // do all rows begin at a multiple of four values' size, and is H one of four?
};

// Brings n values, a multiple of four, of each of `rows` rows into shared memory, from the begin-th
// on; zeros from the H-th on. row_of(r) points to the values of row r, null for zeros. By four at a
// time where the rows allow it, as the caller says: arrays are aligned to their elements only.
template <class S, class RowOf>
FASTRNN_DEVICE void copy_to_shared(S* to, int stride, int rows, const RowPart& part, RowOf row_of) {
  const auto value_of = [&](int r, int k) -> const S* {
    const S* from = row_of(r);
    return from && part.begin + k < part.H ? from + part.begin + k : nullptr;
  };
  if (part.quads)
    copy_in_flight<kLoadsInFlight>(
        rows, part.n / 4,
        [&](int r, int quad) {
          const S* from = value_of(r, 4 * quad);
          return from ? exchange_load(reinterpret_cast<const Quad<S>*>(from)) : Quad<S>{};
        },
        [&](int r, int quad, const Quad<S>& values) {
          *reinterpret_cast<Quad<S>*>(to + r * stride + 4 * quad) = values;
        });
  else
    copy_in_flight<kLoadsInFlight>(
        rows, part.n,
        [&](int r, int k) {
          const S* from = value_of(r, k);
          return from ? exchange_load(from) : narrow<S>(Acc<S>(0));
        },
        [&](int r, int k, S value) { to[r * stride + k] = value; });
}

}  // namespace gpu
}  // namespace fastrnn
