// What micro.cu gives a block to do: the numbers that the planner would find
// (csrc/cuda/grid_plan.cpp), as far as its kernels ask for them.
#pragma once

#include <algorithm>

#include "cuda/layout.h"

namespace fastrnn {
namespace gpu {

// A group of blocks that exchange `rows` rows of k values, or one block with so many columns.
struct Share {
  ExchangeWay way;
  int blocks, rows, k;
  int columns = 0;
  bool tensor = false;
  bool streams = false;  // no weights are resident
};

// bytes: of an element.
inline Grid grid_of(const Share& s, int bytes) {
  constexpr int kScalarChunk = 512, kChunksStreamed = 4;
  const int step = kStepBytes / bytes, skew = kSkewBytes / bytes;
  Grid grid{};
  grid.way = s.way;
  grid.replicas = 1;
  grid.blocks_per_group = s.blocks;
  grid.units = (s.k + s.blocks - 1) / s.blocks;
  grid.rows = s.rows;
  grid.tile_rows = s.tensor ? s.rows : rows_of_tile(s.rows);
  grid.tensor = s.tensor;
  grid.padded = grid.k = s.k;
  grid.chunk = std::min(s.tensor ? 8 * step : kScalarChunk, s.k);
  const int chunks = s.k / grid.chunk;
  grid.staged = s.streams ? std::max(1, std::min(kChunksStreamed, chunks / 2)) * grid.chunk : s.k;
  grid.resident = s.streams ? 0 : s.k;
  grid.staged_stride = grid.staged + skew;
  grid.resident_stride = grid.resident + skew;
  const int wide = s.tensor ? kTensorColumns : kTileColumns;
  const int parts = (s.columns + wide - 1) / wide * (s.tensor ? s.rows / kTileRows : 1);
  grid.slots = parts < kMaxThreads / kLanes ? grid.staged / grid.chunk : 1;

  int end = 0;
  const auto take = [&](int n) {
    const int begin = end;
    end += (n + 15) / 16 * 16;
    return begin;
  };
  grid.at.weights = take(s.columns * grid.resident_stride * bytes);
  grid.at.streamed = take(s.streams ? s.columns * grid.staged_stride * bytes : 0);
  grid.at.staged = take(2 * grid.tile_rows * grid.staged_stride * bytes);
  grid.at.sums = take(4 * grid.slots * grid.tile_rows * s.columns);
  grid.at.arrivals = take(8);
  grid.at.bytes = end;
  return grid;
}

}  // namespace gpu
}  // namespace fastrnn
