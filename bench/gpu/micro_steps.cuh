// What the grid mode does at a step, by its own code (csrc/cuda), again and again: for micro.cu to
// time and for the emulator to see that it is right (tests/cuda_emulation/test_micro.cpp).
#pragma once

#include "cuda/exchange.cuh"
#include "cuda/product.cuh"

namespace fastrnn {
namespace gpu {

// What kernels write: as much as an exchange publishes, what threads have computed, and, by threads
// that have waited too long, an error.
struct Out {
  float* stored;
  float* kept;  // [kMaxThreads]
  DeviceError* error;

  FASTRNN_DEVICE void give_up() const { abandon(error, "micro"); }
  // Only a value that is there in a test alone: so the compiler cannot leave the work out.
  FASTRNN_DEVICE void keep(float value) const {
    if (value == kKept) kept[thread()] = value;
  }
  static constexpr float kKept = -1.5f;
};

FASTRNN_KERNEL barriers(unsigned* counter, int times, Out out) {
  GroupBarrier barrier{counter, unsigned(blocks())};
  for (int i = 0; i < times; ++i) {
    barrier.arrive();
    barrier.wait([&] { out.give_up(); });
  }
}

// An exchange of any way: each block publishes its units of all rows, arrives, stores as much that
// nobody waits for, waits, and stages all rows. Each value is half of one that the exchange before
// brought. stages_only: that last part alone, of rows that are there.
template <class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    exchanges(FASTRNN_ARGUMENT Grid grid, bool stages_only, float value, int times, Out out) {
  const auto give_up = [&] { out.give_up(); };
  const int rank = block() % grid.blocks_per_group, begin = rank * grid.units;
  const int units = grid.k - begin < grid.units ? grid.k - begin : grid.units;
  Exchange<S> exchange{grid, grid.k, 0};
  exchange.set_up();
  sync_block("micro: the exchange is set up");
  const int mine = thread() / grid.k % grid.rows * grid.staged_stride + thread() % grid.k;
  const auto for_units = [&](auto f) {
    for (Cells cell(units, thread(), threads()); cell.row < grid.rows; cell.next())
      f(cell.row, begin + cell.column);
  };
  for (int i = 0; i < times; ++i) {
    if (!stages_only) {
      for_units([&](int r, int u) { exchange.publish(r, 0, u, narrow<S>(value)); });
      exchange.arrive();
      for_units([&](int r, int u) { exchange_store(out.stored + r * grid.k + u, value); });
      exchange.wait(give_up);
    }
    exchange.stage({0, grid.rows, grid.tile_rows, 0, grid.k}, give_up);
    sync_block("micro: the rows are staged");
    value = 0.5f * widen(exchange.staged()[mine]);
    sync_block("micro: the rows are used");
  }
  out.keep(value);
}

// A block's product of rows of ones, whose weights in memory are `columns` rows of k values; with
// `sets_up` only what brings those that stay in shared memory there.
template <class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    products(FASTRNN_ARGUMENT Grid grid, int columns, bool sets_up, int times, const S* from,
             Out out) {
  const auto part = [&](int at) { return shared_memory() + at; };
  S* const weights = reinterpret_cast<S*>(part(grid.at.weights));
  S* const staged = reinterpret_cast<S*>(part(grid.at.staged));
  float* const made = reinterpret_cast<float*>(part(grid.at.sums));
  const Product<S> product{grid, columns, weights, reinterpret_cast<S*>(part(grid.at.streamed)),
                           made};
  const auto load = [&](S* to, int stride, int begin, int n) {
    copy_to_shared(to, stride, columns, {grid.k, begin, n, true},
                   [&](int c) { return from + int64_t(c) * grid.k; });
  };
  for (int i = thread(); i < grid.tile_rows * grid.staged_stride; i += threads())
    staged[i] = narrow<S>(1.0f);
  if (grid.resident > 0) load(weights, grid.resident_stride, 0, grid.resident);
  sync_block("micro: the block is set up");
  const int row = thread() / columns % grid.rows;
  float sum = 0;
  for (int i = 0; i < times; ++i) {
    if (sets_up) {
      load(weights, grid.resident_stride, 0, grid.resident);
      sync_block("micro: the weights are here");
      sum += widen(weights[thread()]);
      continue;
    }
    const auto nothing_to_stage = [](int, int, int) {};
    const PartialSums sums = multiply(product, staged, grid.rows, nothing_to_stage, load);
    sync_block("micro: sums are made");
    sum += sums(row, thread() % columns);
  }
  out.keep(sum);
}

FASTRNN_KERNEL cluster_barrier(int times) {
  for (int i = 0; i < times; ++i) sync_cluster("micro: the cluster is here");
}

}  // namespace gpu
}  // namespace fastrnn
