#include "grid_plan.h"

#include <algorithm>
#include <vector>

#include "../core/problem.h"
#include "costs.h"

namespace fastrnn {
namespace gpu {

namespace {

// Whether kernels can count so many steps or rows.
bool fits_int(int64_t n) { return n < INT32_MAX; }

// What the cell decides of a block's shared memory, for each unit: columns of the product, values
// from step to step, and the bytes of what it keeps for a whole pass.
struct OfUnit {
  int columns, carried, constant_bytes;
};
OfUnit of_unit(const Work& w) {
  const KernelSet& k = w.kernels;
  return w.backward ? OfUnit{1, k.states, k.backward_constants}
                    : OfUnit{k.gates, k.states - 1, k.forward_constants};
}

// The parts of shared memory, one after the other.
class Parts {
 public:
  int take(int64_t bytes) {
    const int64_t at = bytes_;
    bytes_ += (bytes + 15) / 16 * 16;
    return static_cast<int>(std::min<int64_t>(at, INT32_MAX));  // which fits no device
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

GridLayout lay_out(const Grid& grid, const OfUnit& unit, int element_bytes) {
  const int64_t columns = int64_t{unit.columns} * grid.units;
  const int64_t row = int64_t{grid.staged_stride} * element_bytes;
  const int slots = grid.way == ExchangeWay::kCluster ? 2 : 1;
  Parts parts;
  GridLayout at{};
  at.weights = parts.take(columns * grid.resident_stride * element_bytes);
  at.streamed = parts.take(grid.resident < grid.k ? columns * row : 0);
  at.staged = parts.take(slots * grid.tile_rows * row);
  at.sums = parts.take(4 * grid.slots * grid.tile_rows * columns);
  at.states = parts.take(int64_t{4} * unit.carried * grid.rows * grid.units);
  at.constants = parts.take(int64_t{unit.constant_bytes} * grid.units);
  at.lengths = parts.take(int64_t{4} * grid.rows);
  at.given = parts.take(int64_t{8} * grid.rows);
  at.arrivals = parts.take(8);
  at.bytes = parts.bytes();
  return at;
}

// One way to share a pass, being chosen.
class Candidate {
 public:
  Candidate(const Work& work, ExchangeWay way, bool tensor)
      : w_(work),
        costs_(costs_of(work.device)),
        unit_(of_unit(work)),
        bytes_(work.kernels.element_bytes) {
    const int step = kStepBytes / bytes_;
    grid_.way = way;
    grid_.tensor = tensor;
    grid_.padded = static_cast<int>(ceil_div(w_.H, step) * step);
    grid_.k = grid_.padded * (w_.backward ? w_.kernels.gates : 1);
    grid_.chunk = tensor ? 8 * step : kScalarChunk;
  }

  void share(int units, int blocks, int64_t replicas) {
    const int64_t B = std::max<int64_t>(w_.B, 1);
    grid_.units = units;
    grid_.blocks_per_group = blocks;
    grid_.rows = static_cast<int>(ceil_div(B, replicas));
    grid_.replicas = static_cast<int>(ceil_div(B, grid_.rows));
  }
  int rows() const { return grid_.rows; }
  int groups() const { return w_.directions * grid_.replicas; }

  // Tiles of at most so many rows. True if shared memory takes them.
  bool take_tiles(int rows) {
    grid_.tile_rows = rows;
    if (grid_.way == ExchangeWay::kCluster && grid_.rows > rows) return false;
    // All of k at once, or as much as there is room for beside all weights.
    for (const int staged : stagings())
      if (take(staged, grid_.k)) return true;
    return grid_.way != ExchangeWay::kCluster && stream();
  }

  // One step, and what comes once for T of them.
  double microseconds(int64_t T) const {
    return exchange() + static_cast<double>(ceil_div(grid_.rows, grid_.tile_rows)) * of_tile() +
           set_up() / static_cast<double>(std::max<int64_t>(T, 1));
  }

  Plan plan() const {
    Plan plan;
    plan.grid = grid_;
    plan.blocks = groups() * grid_.blocks_per_group;
    plan.threads = threads();
    plan.cooperative = grid_.way != ExchangeWay::kCluster;
    plan.shared = grid_.at.bytes;
    return plan;
  }

 private:
  static constexpr int kScalarChunk = 512;
  const Work& w_;
  const Costs& costs_;
  OfUnit unit_;
  int bytes_;  // of an element
  Grid grid_{};

  int64_t columns() const { return int64_t{unit_.columns} * grid_.units; }
  int chunks(int k) const { return static_cast<int>(ceil_div(k, grid_.chunk)); }
  int tile_rows() const { return std::min(grid_.rows, grid_.tile_rows); }
  // Parts of the product that warps share, at least, where chunks are of so many slots.
  int64_t parts(int slots) const {
    const int of_columns = grid_.tensor ? kTensorColumns : kTileColumns;
    return ceil_div(columns(), of_columns) * slots *
           (grid_.tensor ? grid_.tile_rows / kTileRows : 1);
  }
  // A warp for each part of the product, a thread for each unit of a tile's rows, and for each two
  // pieces of 16 bytes that are staged.
  int threads() const {
    const int64_t pieces = int64_t{grid_.tile_rows} * grid_.staged * bytes_ / 16;
    const int64_t wanted = std::max(
        {int64_t{tile_rows()} * grid_.units, parts(grid_.slots) * kLanes, ceil_div(pieces, 2)});
    return static_cast<int>(std::min<int64_t>(ceil_div(wanted, kLanes) * kLanes, kMaxThreads));
  }

  // How much of k may be staged at once: all, then whole chunks, half as many each time.
  std::vector<int> stagings() const {
    std::vector<int> all = {grid_.k};
    if (grid_.way == ExchangeWay::kCluster) return all;
    for (int n = chunks(grid_.k) / 2; n > 0; n /= 2) all.push_back(n * grid_.chunk);
    return all;
  }
  // So much of k staged, and so much resident. Chunks are apart where there are warps without
  // columns.
  bool take(int staged, int resident) {
    const int skew = kSkewBytes / bytes_;
    grid_.staged = staged, grid_.staged_stride = staged + skew;
    grid_.resident = resident, grid_.resident_stride = resident + skew;
    grid_.slots = chunks(staged);
    if (parts(1) < kMaxThreads / kLanes && grid_.slots > 1 && fits()) return true;
    grid_.slots = 1;
    return fits();
  }
  bool fits() {
    grid_.at = lay_out(grid_, unit_, bytes_);
    return grid_.at.bytes <= w_.device.shared_per_block;
  }

  // As many weights resident as there is room for, in whole stagings: the quickest of those that
  // take more at once and of those that leave more room.
  bool stream() {
    Grid best{};
    double best_time = 0;
    for (int n = std::min(4, chunks(grid_.k) / 2); n > 0; n /= 2) {
      if (!take_resident(n * grid_.chunk) || (best.k && of_tile() >= best_time)) continue;
      best = grid_;
      best_time = of_tile();
    }
    if (best.k) grid_ = best;
    return best.k > 0;
  }
  bool take_resident(int staged) {
    if (!take(staged, 0)) return false;
    const int64_t room = w_.device.shared_per_block - grid_.at.bytes;
    int64_t resident = std::min<int64_t>(room / (columns() * bytes_), grid_.k) / staged * staged;
    while (!take(staged, static_cast<int>(resident))) resident -= staged;
    return true;
  }

  double exchange() const {
    if (grid_.blocks_per_group == 1) return 0;
    switch (grid_.way) {
      case ExchangeWay::kFlags: return costs_.flags;
      case ExchangeWay::kCluster: return costs_.cluster;
      case ExchangeWay::kCounter: break;
    }
    return costs_.barrier + costs_.barrier_per_block * grid_.blocks_per_group;
  }
  double of_tile() const {
    const bool in_place = grid_.way == ExchangeWay::kCluster;
    const auto stagings = static_cast<double>(ceil_div(grid_.k, grid_.staged));
    const double streamed = static_cast<double>((grid_.k - grid_.resident) * columns() * bytes_);
    return stagings * (costs_.tile - (in_place ? costs_.staging : 0)) +
           costs_.slowdown * product() +
           w_.microseconds(streamed + polled(), costs_.streamed_bytes);
  }
  // Bytes of flagged words beyond those of the values.
  double polled() const {
    if (grid_.way != ExchangeWay::kFlags) return 0;
    return static_cast<double>(int64_t{tile_rows()} * grid_.k * (kFlaggedBytes - bytes_));
  }
  double product() const {
    const int of_columns = grid_.tensor ? kTensorColumns : kTileColumns;
    const int rows = grid_.tensor ? grid_.tile_rows : tile_rows();
    const auto tiles = static_cast<double>(ceil_div(columns(), of_columns));
    const double k = grid_.k, products = k * rows * static_cast<double>(columns());
    const double rate = grid_.tensor ? costs_.tensor_fused * 2 / bytes_ : costs_.fused;
    return std::max(w_.microseconds(products, rate),
                    w_.microseconds(tiles * k * bytes_ * (rows + of_columns), costs_.shared_bytes));
  }
  // A launch, and the weights of a block out of L2.
  double set_up() const {
    const auto bytes = static_cast<double>(grid_.resident * columns() * bytes_);
    return costs_.launch + costs_.staging + w_.microseconds(bytes, costs_.streamed_bytes);
  }
};

// Groups that are run at once, or 0 where a block does not fit.
int64_t groups_at_once(const Work& w, const Plan& plan) {
  const void* kernel = grid_kernel(w);
  const Grid& grid = plan.grid;
  if (grid.way == ExchangeWay::kCluster && grid.blocks_per_group > 1)
    return clusters_at_once(w.op, kernel, plan.threads, plan.shared, grid.blocks_per_group);
  const int on_one = blocks_per_processor(w.op, kernel, plan.threads, plan.shared);
  if (on_one < 1) return 0;
  return w.device.processors / grid.blocks_per_group;
}

class Search {
 public:
  Search(const Work& work, ExchangeWay way)
      : w_(work), way_(way), tensor_(uses_tensor_cores(work)) {}

  Plan best() {
    if (!grid_kernel(w_) || !fits_int(w_.T) || !fits_int(w_.B)) return best_;
    if (way_ == ExchangeWay::kCluster) {
      for (int blocks = 1; blocks <= max_cluster(); blocks *= 2) try_cluster(blocks);
    } else if (w_.device.cooperative) {
      for (int units = 1; units <= std::min<int64_t>(kMaxUnits, w_.H); ++units) try_units(units);
    }
    return best_;
  }

 private:
  static constexpr int kMaxUnits = 64;
  const Work& w_;
  ExchangeWay way_;
  bool tensor_;
  Plan best_;

  static bool uses_tensor_cores(const Work& w) {
    const int architecture = architecture_of(w.op, grid_kernel(w));
    if (w.kernels.element_bytes == 4) return w.tf32 && architecture >= 80;
    return w.kernels.storage == Storage::kHalf || architecture >= 80;
  }

  // What is compiled for an older card than the one it runs on knows no clusters.
  int64_t max_cluster() const {
    const bool knows_them = architecture_of(w_.op, grid_kernel(w_)) >= 90;
    return knows_them ? std::max<int64_t>(w_.device.max_cluster, 1) : 1;
  }

  // All blocks at once: groups wait for one another's places.
  void try_units(int units) {
    const int blocks = static_cast<int>(ceil_div(w_.H, units));
    const int64_t most = w_.device.processors / (int64_t{blocks} * w_.directions);
    const int64_t B = std::max<int64_t>(w_.B, 1);
    for (int64_t replicas = std::min(most, B); replicas >= 1; replicas /= 2)
      try_shares(units, blocks, replicas);
  }
  // Groups know nothing of each other, and more than fit at once come in turns. Every block has
  // units, since the others wait for it.
  void try_cluster(int blocks) {
    const int units = static_cast<int>(ceil_div(w_.H, blocks));
    if (ceil_div(w_.H, units) != blocks) return;
    const int64_t B = std::max<int64_t>(w_.B, 1), most = tensor_ ? kMaxTensorRows : kTileRows;
    for (int64_t rows = std::min(most, B); rows >= 1; rows /= 2)
      try_shares(units, blocks, ceil_div(B, rows));
  }

  void try_shares(int units, int blocks, int64_t replicas) {
    Candidate candidate(w_, way_, tensor_);
    candidate.share(units, blocks, replicas);
    if (!tensor_) return try_tiles(candidate, rows_of_tile(candidate.rows()));
    for (int tile = kTileRows; tile <= kMaxTensorRows; tile *= 2) {
      try_tiles(candidate, tile);
      if (tile >= candidate.rows()) break;
    }
  }

  void try_tiles(Candidate& candidate, int rows) {
    if (!candidate.take_tiles(rows)) return;
    Plan plan = candidate.plan();
    plan.microseconds = candidate.microseconds(w_.T);
    if (best_.blocks && plan.microseconds >= best_.microseconds) return;
    const int64_t at_once = groups_at_once(w_, plan), groups = candidate.groups();
    if (at_once < (way_ == ExchangeWay::kCluster ? 1 : groups)) return;
    plan.microseconds *= static_cast<double>(ceil_div(groups, at_once));
    if (!best_.blocks || plan.microseconds < best_.microseconds) best_ = plan;
  }
};

}  // namespace

const void* grid_kernel(const Work& w) {
  const KernelSet& all = w.kernels;
  return w.backward ? reinterpret_cast<const void*>(all.grid_backward)
                    : reinterpret_cast<const void*>(all.grid_forward);
}

Plan plan_grid(const Work& work, ExchangeWay way) { return Search(work, way).best(); }

}  // namespace gpu
}  // namespace fastrnn
