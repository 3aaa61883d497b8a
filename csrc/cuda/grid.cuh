// The grid mode: one launch for all steps. A block keeps the weights of its units in shared memory
// and the states of its units between steps; what the blocks of a group exchange at each step are
// rows of h (forward) or of the gates' gradients (backward), through the arrays that hold them
// anyway, with one barrier of the group a step.
//
// Bound: at small batches the barrier, then the product (product.cuh).
#pragma once

#include "product.cuh"
#include "steps.cuh"

namespace fastrnn {
namespace gpu {

// A block's shared memory.
template <class S> struct GridMemory {
  S* weights;
  float *staged, *sums, *states;
  int *lengths, *longest;

  FASTRNN_DEVICE explicit GridMemory(const GridLayout& at) {
    char* base = shared_memory();
    weights = reinterpret_cast<S*>(base + at.weights);
    staged = reinterpret_cast<float*>(base + at.staged);
    sums = reinterpret_cast<float*>(base + at.sums);
    states = reinterpret_cast<float*>(base + at.states);
    lengths = reinterpret_cast<int*>(base + at.lengths);
    longest = reinterpret_cast<int*>(base + at.longest);
  }
};

// Which direction, rows and units are this block's.
template <class P> struct BlockWork {
  const P& pass;
  int direction, row_begin, rows, unit_begin, units;
  GroupBarrier barrier;

  FASTRNN_DEVICE explicit BlockWork(const P& p) : pass(p) {
    const Grid& grid = pass.grid;
    const int group = block() / grid.blocks_per_group, member = block() % grid.blocks_per_group;
    direction = group / grid.replicas;
    row_begin = group % grid.replicas * grid.rows;
    const int64_t left = pass.scan.B - row_begin;
    rows = left < 0 ? 0 : left < grid.rows ? int(left) : grid.rows;
    unit_begin = member * grid.units;
    units = pass.H - unit_begin < grid.units ? int(pass.H - unit_begin) : grid.units;
    barrier = {grid.counters + group * kCounterStride, unsigned(grid.blocks_per_group)};
  }
  FASTRNN_DEVICE void sync_group() {
    barrier.arrive_and_wait([&] { abandon(pass.scan.error, pass.grid.name); });
  }
};

// The lengths of a block's rows, and the longest.
template <class S> FASTRNN_DEVICE void read_lengths(const GridMemory<S>& memory,
                                                    const RowSteps& scan, int row_begin, int rows) {
  for (int i = thread(); i < rows; i += threads())
    memory.lengths[i] = int(length_of(scan, row_begin + i));
  sync_block("grid: lengths are read");
  if (thread() == 0) {
    int longest = 0;
    for (int i = 0; i < rows; ++i)
      longest = memory.lengths[i] > longest ? memory.lengths[i] : longest;
    *memory.longest = longest;
  }
  // Seen after the caller's next sync_block.
}

// Columns of one segment whose k are neighbours in memory: row_of(column) points to them.
template <class S, class RowOf>
FASTRNN_DEVICE void load_rows_of_weights(S* weights, const KDim& k_dim, int columns, RowOf row_of) {
  const int quads = k_dim.padded() / 4;
  copy_in_flight<kLoadsInFlight>(
      columns * quads,
      [&](int i) { return exchange_quad<S>(row_of(i / quads), i % quads * 4, k_dim.H); },
      [&](int i, const Quad<S>& quad) { reinterpret_cast<Quad<S>*>(weights)[i] = quad; });
}

// Columns that are neighbours in memory themselves: row_of(segment, k) points to them.
template <class S, class RowOf>
FASTRNN_DEVICE void load_columns_of_weights(S* weights, const KDim& k_dim, int columns,
                                            RowOf row_of) {
  const int size = k_dim.size(), padded = k_dim.padded();
  copy_in_flight<kLoadsInFlight>(
      columns * size,
      [&](int i) {
        const int padded_k = i / columns, segment = padded_k / padded,
                  k = padded_k - segment * padded;
        return k < k_dim.H ? exchange_load(row_of(segment, k) + i % columns) : narrow<S>(Acc<S>(0));
      },
      [&](int i, S value) { weights[i % columns * size + i / columns] = value; });
}

template <class Cell, class Math, class S, class Rows> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    grid_forward(FASTRNN_ARGUMENT ForwardPass pass) {
  using Unit = ForwardUnit<Cell, Math, S, Rows>;
  constexpr int G = Cell::kGates;
  BlockWork<ForwardPass> work(pass);
  const typename Unit::At at{pass, pass.direction[work.direction]};
  const int H = int(pass.H), units = work.units, rows = work.rows;
  const KDim k_dim{pass.H, 1};
  const GridMemory<S> memory(GridLayout(sizeof(S), k_dim, pass.grid.units * G, Cell::kStates - 1,
                                        pass.grid.rows, pass.grid.units));
  const int columns = units * G;  // column c: unit c / G, gate c % G

  read_lengths(memory, pass.scan, work.row_begin, rows);
  const S* w_hh = static_cast<const S*>(at.d.w_hh);
  load_rows_of_weights(memory.weights, k_dim, columns, [&](int c) {
    return w_hh + (int64_t(c % G) * H + work.unit_begin + c / G) * H;
  });
  const int carry_stride = rows * units;
  for (int i = thread(); i < carry_stride; i += threads())
    for (int k = 1; k < Cell::kStates; ++k)
      memory.states[(k - 1) * carry_stride + i] =
          Unit::entering(at, k, work.row_begin + i / units, work.unit_begin + i % units);
  sync_block("forward: the block is set up");
  const int longest = *memory.longest;

  // This thread's unit, and its row within a tile.
  const int unit = thread() % units, tile_row = thread() / units;
  const int64_t u = work.unit_begin + unit;
  const typename Unit::Biases biases(at, u);
  const Product<S> product{k_dim, memory.weights, columns, memory.staged, memory.sums};
  for (int64_t s = pass.begin; s < pass.end; ++s) {
    const int64_t t = at.time(s);
    const bool any = t < longest;
    for (int first = 0; first < rows; first += kTileRows) {
      const int count = rows - first < kTileRows ? rows - first : kTileRows;
      const int64_t b0 = work.row_begin + first;
      const bool mine = tile_row < count;
      const int r = first + (mine ? tile_row : 0);
      typename Unit::Inputs in = {};
      if (mine) in = Unit::load(at, t, b0 + tile_row, u, memory.lengths[r]);
      Pack<float, G> sums = {};
      if (any) {
        const PartialSums made = multiply(product, count, [&](int i, int) -> const S* {
          const int length = memory.lengths[first + i];
          const bool runs = at.runs(t, b0 + i, length);
          return runs ? at.template h_before<S>(t, b0 + i, length) : nullptr;
        });
        sync_block("forward: sums are made");
        if (mine)
          for (int g = 0; g < G; ++g) sums[g] = made(tile_row, unit * G + g);
      }
      if (mine)
        Unit::finish(at, {s, t, b0 + tile_row, u}, in, biases, sums,
                     {memory.states + r * units + unit, carry_stride});
    }
    if (any && s + 1 < pass.end && !pass.recompute) work.sync_group();
  }
  for (int first = 0; first < rows; first += kTileRows)
    if (tile_row < kTileRows && first + tile_row < rows) {
      const int r = first + tile_row;
      Unit::leave(at, work.row_begin + r, u, memory.lengths[r],
                  {memory.states + r * units + unit, carry_stride});
    }
}

template <class Cell, class Math, class S, class Rows> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    grid_backward(FASTRNN_ARGUMENT BackwardPass pass) {
  using Unit = BackwardUnit<Cell, Math, S, Rows>;
  constexpr int G = Cell::kGates;
  BlockWork<BackwardPass> work(pass);
  const typename Unit::At at{pass, pass.direction[work.direction]};
  const int H = int(pass.H), units = work.units, rows = work.rows;
  const KDim k_dim{pass.H, G};
  const GridMemory<S> memory(GridLayout(sizeof(S), k_dim, pass.grid.units, Cell::kStates,
                                        pass.grid.rows, pass.grid.units));

  read_lengths(memory, pass.scan, work.row_begin, rows);
  const S* w_hh = static_cast<const S*>(at.d.w_hh);
  load_columns_of_weights(memory.weights, k_dim, units, [&](int g, int k) {
    return w_hh + (int64_t(g) * H + k) * H + work.unit_begin;
  });
  const int stride = rows * units;
  const auto index_of = [&](int i) {
    return (work.row_begin + i / units) * pass.H + work.unit_begin + i % units;
  };
  for (int i = thread(); i < stride; i += threads())
    for (int k = 0; k < Cell::kStates; ++k)
      memory.states[k * stride + i] = Unit::load_dstate(at, k, index_of(i));
  sync_block("backward: the block is set up");
  const int longest = *memory.longest;

  const int unit = thread() % units, tile_row = thread() / units;
  const int64_t u = work.unit_begin + unit;
  const Product<S> product{k_dim, memory.weights, units, memory.staged, memory.sums};
  // Once more than there are steps: the last time only to pass on what the first step leaves.
  for (int64_t s = pass.end - 1; s >= pass.begin - 1; --s) {
    const int64_t t = at.time(s), later = at.time(s + 1);
    const bool steps = s >= pass.begin, passes = s + 1 < pass.end && later < longest;
    for (int first = 0; first < rows; first += kTileRows) {
      const int count = rows - first < kTileRows ? rows - first : kTileRows;
      const int64_t b0 = work.row_begin + first, b = b0 + tile_row;
      const bool mine = tile_row < count;
      const int r = first + (mine ? tile_row : 0);
      const Carried<float> ds{memory.states + r * units + unit, stride};
      typename Unit::Inputs in = {};
      if (mine && steps) in = Unit::load(at, t, b, u, memory.lengths[r]);
      if (passes) {
        const PartialSums made = multiply(product, count, [&](int i, int g) -> const S* {
          const int length = memory.lengths[first + i];
          if (!at.runs(later, b0 + i, length) || at.starts_from_zero(later, b0 + i, length))
            return nullptr;
          return row_of<const S>(at.d.dgates, at.window_time(later), b0 + i) +
                 CellTraits<Cell>::recurrent_plane(g) * pass.H;
        });
        sync_block("backward: sums are made");
        if (mine) Unit::pass_on(at, later, b, memory.lengths[r], made(tile_row, unit), ds);
      }
      if (mine && steps) Unit::finish(at, t, b, u, in, ds);
    }
    if (steps && t < longest) work.sync_group();
  }
  // By those who have kept them, so without a barrier.
  for (int first = 0; first < rows; first += kTileRows)
    if (tile_row < kTileRows && first + tile_row < rows)
      for (int k = 0; k < Cell::kStates; ++k) {
        const int i = (first + tile_row) * units + unit;
        Unit::store_dstate(at, k, index_of(i), memory.states[k * stride + i]);
      }
}

}  // namespace gpu
}  // namespace fastrnn
