// Sizes that the host and the kernels of the grid mode share.
#pragma once

#include <stdint.h>

#include "../core/shared.h"

namespace fastrnn {
namespace gpu {

constexpr int kLanes = 32, kMaxThreads = 256;
// A warp's part of the recurrent product; rows beyond a tile come in turns.
constexpr int kTileRows = 8, kTileColumns = 4;
// The rows of the tile that multiplies so many: tiles are compiled for 1, 4 and 8.
FASTRNN_HOST_DEVICE int rows_of_tile(int rows) { return rows <= 1 ? 1 : rows <= 4 ? 4 : kTileRows; }
// The k of one chunk, which has a partial sum of its own. It decides how a sum associates, so it is
// the same for every plan.
constexpr int kChunk = 512;
// Loads of a thread that are on their way at once while weights are read.
constexpr int kLoadsInFlight = 8;
// Values that are staged at once: a chunk of each row of a tile, or more of fewer rows.
constexpr int kStaged = kTileRows * kChunk;

// The contracting dimension k of the recurrent product: `segments` of H values, each padded with
// zeros to whole quads.
struct KDim {
  int64_t H;
  int segments;
  FASTRNN_HOST_DEVICE int padded() const { return static_cast<int>((H + 3) / 4 * 4); }
  FASTRNN_HOST_DEVICE int size() const { return segments * padded(); }
  // k that are staged at once of each of so many rows.
  FASTRNN_HOST_DEVICE int staged(int rows) const {
    return size() < kStaged / rows ? size() : kStaged / rows;
  }
  FASTRNN_HOST_DEVICE int staged_chunks(int rows) const {
    return (staged(rows) + kChunk - 1) / kChunk;
  }
};

// A block's shared memory: where each part begins, and its size. `columns` are those of the
// product, `carried` the values that a unit keeps from step to step.
struct GridLayout {
  int64_t bytes = 0;
  int64_t weights;  // [columns][k_dim.size()] of the storage type
  int64_t staged;   // [rows][k_dim.staged(rows)] floats, of 1 to kTileRows rows
  int64_t sums;     // [chunks][rows][columns] floats, of a staging of so many rows
  int64_t states;   // [carried][rows][units] floats
  int64_t lengths;  // [rows] ints
  int64_t longest;  // int

  FASTRNN_HOST_DEVICE GridLayout(int element_bytes, const KDim& k_dim, int columns, int carried,
                                 int rows, int units) {
    weights = take(int64_t{columns} * k_dim.size() * element_bytes);
    staged = take(4 * kTileRows * k_dim.staged(kTileRows));  // fewer rows take no more
    sums = take(4 * kTileRows * columns);
    states = take(int64_t{4} * carried * rows * units);
    lengths = take(int64_t{4} * rows);
    longest = take(4);
  }

 private:
  FASTRNN_HOST_DEVICE int64_t take(int64_t n) {
    const int64_t at = bytes;
    bytes += (n + 15) / 16 * 16;
    return at;
  }
};

}  // namespace gpu
}  // namespace fastrnn
