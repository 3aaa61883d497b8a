// The host's side of the grid mode (grid.cuh): one launch for all steps of a window.
#include <algorithm>

#include "../core/problem.h"
#include "costs.h"
#include "layout.h"
#include "mode.h"

namespace fastrnn {
namespace gpu {

namespace {

// Whether kernels can count so many steps or rows.
bool fits_int(int64_t n) { return n < INT32_MAX; }

// k and columns of a unit in the recurrent product.
KDim k_dim_of(const Work& w) { return {w.H, w.backward ? w.kernels.gates : 1}; }
int columns_of(const Work& w, int units) { return units * (w.backward ? 1 : w.kernels.gates); }

int64_t shared_bytes(const Work& w, int units, int rows) {
  const int kept = w.backward ? w.kernels.states : w.kernels.states - 1;
  return GridLayout(w.kernels.element_bytes, k_dim_of(w), columns_of(w, units), kept, rows, units)
      .bytes;
}

// A thread for each unit of a tile's rows, a warp for each part of the product, and for each two
// quads that are staged a thread.
int threads_of_block(const Work& w, int units, int rows) {
  const KDim k_dim = k_dim_of(w);
  const int of_tile = rows_of_tile(rows), staged = k_dim.staged(of_tile) * of_tile;
  const int64_t warps = ceil_div(columns_of(w, units), kTileColumns) * k_dim.staged_chunks(of_tile);
  const int64_t wanted = std::max({int64_t{of_tile} * units, warps * kLanes, ceil_div(staged, 8)});
  return static_cast<int>(std::min<int64_t>(ceil_div(wanted, kLanes) * kLanes, kMaxThreads));
}

// One step of a group of `blocks` with so many rows.
double microseconds_of(const Work& w, int units, int rows, int blocks) {
  const KDim k_dim = k_dim_of(w);
  const double k = k_dim.size(), columns = columns_of(w, units);
  const int64_t tiles = ceil_div(rows, kTileRows);
  const int64_t stagings = ceil_div(k_dim.size(), k_dim.staged(rows_of_tile(rows)));
  const double tile_rows = std::min(rows, kTileRows);
  const double groups = static_cast<double>(ceil_div(columns_of(w, units), kTileColumns));
  const double product =
      std::max(w.microseconds(tile_rows * k * columns, kCosts.fused),
               w.microseconds(groups * k * (tile_rows * 4 + kTileColumns * w.kernels.element_bytes),
                              kCosts.shared_bytes));
  const double of_a_tile = static_cast<double>(stagings) * kCosts.tile + kCosts.slowdown * product;
  return kCosts.barrier + kCosts.barrier_per_block * blocks +
         static_cast<double>(tiles) * of_a_tile;
}

int64_t counters_of(const Plan& plan) {
  return int64_t{plan.blocks / plan.grid.blocks_per_group} * kCounterStride;
}

// Which of two kernels a pass needs: rows may be held, or not.
template <class P> int kernel_of(const P& pass) { return pass.direction[0].before != nullptr; }

template <class P>
void launch_pass(const Site& site, P& pass, void (*kernel)(P), const char* name) {
  const std::string& op = site.stack.spec.op;
  const Plan& plan = site.plan;
  pass.grid = plan.grid;
  pass.grid.counters = reinterpret_cast<unsigned*>(site.memory[0].data);
  pass.grid.name = name;
  with_reason(op, pass.scan.error, [&] {
    zero(op, pass.grid.counters, 4 * counters_of(plan), site.stream);
    launch(op, {plan.blocks, plan.threads, plan.shared, plan.cooperative, site.stream}, kernel,
           pass);
  });
}

class GridMode : public Mode {
 public:
  const char* name() const override { return "grid"; }
  const char* limits() const override {
    return "one product in a step, weights in shared memory, all blocks at once, no float64";
  }

  // The quickest of all ways to share units and rows that fit.
  Plan plan(const Work& w) const override {
    Plan best;
    const KernelSet& all = w.kernels;
    const void* kernel = w.backward ? reinterpret_cast<const void*>(all.grid_backward[w.may_hold])
                                    : reinterpret_cast<const void*>(all.grid_forward[w.may_hold]);
    if (!kernel || !w.device.cooperative || !fits_int(w.T) || !fits_int(w.B)) return best;
    for (int units = 1; units <= std::min<int64_t>(kMaxThreads / kTileRows, w.H); ++units) {
      const int64_t blocks = ceil_div(w.H, units), rows_at_least_1 = std::max<int64_t>(w.B, 1);
      const int64_t most = w.device.processors / (blocks * w.directions);
      for (int64_t replicas = std::min(most, rows_at_least_1); replicas >= 1; replicas /= 2) {
        const int rows = static_cast<int>(ceil_div(rows_at_least_1, replicas));
        const int64_t shared = shared_bytes(w, units, rows);
        if (shared > w.device.shared_per_block) continue;
        const double cost = microseconds_of(w, units, rows, static_cast<int>(blocks));
        if (best.blocks && cost >= best.microseconds) continue;
        const int threads = threads_of_block(w, units, rows);
        if (blocks_per_processor(w.op, kernel, threads, shared) < 1) continue;
        best.mode = this;
        best.grid.replicas = static_cast<int>(ceil_div(rows_at_least_1, rows));
        best.grid.blocks_per_group = static_cast<int>(blocks);
        best.grid.units = units;
        best.grid.rows = rows;
        best.blocks = w.directions * best.grid.replicas * best.grid.blocks_per_group;
        best.threads = threads;
        best.cooperative = true;
        best.shared = shared;
        best.microseconds = cost;
      }
    }
    return best;
  }

  // The counters of the barriers of groups.
  std::vector<Request> memory(const Work&, const Plan& plan) const override {
    return {{{counters_of(plan)}, Elements::kInt32}};
  }

  void run(const Site& site, ForwardPass pass) const override {
    const KernelSet& kernels = *site.stack.kernels;
    launch_pass(site, pass, kernels.grid_forward[kernel_of(pass)], kernels.grid_forward_name);
  }
  void run(const Site& site, BackwardPass pass) const override {
    const KernelSet& kernels = *site.stack.kernels;
    launch_pass(site, pass, kernels.grid_backward[kernel_of(pass)], kernels.grid_backward_name);
  }
};

}  // namespace

const Mode& grid_mode() {
  static const GridMode mode;
  return mode;
}

}  // namespace gpu
}  // namespace fastrnn
