#include "plan.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "../core/error.h"
#include "layout.h"

namespace fastrnn {
namespace gpu {

namespace {

// The model's numbers: microseconds, and rates of one SM in each cycle. As bench/gpu.sh measured
// them on an H200; other cards are taken to be like it. `tile` and `slowdown` are fitted to the
// times of 104 cases there, which the model then gives within 20 % for nine in ten.
struct Costs {
  double barrier = 0.661;              // of a group of blocks, for the group
  double barrier_per_block = 0.00235;  // and for each of its blocks
  double tile = 2.1;             // latency of a tile: its rows are staged, multiplied, and finished
  double launch = 3.65;          // of a kernel, back to back
  double issue = 32;             // of a step's product and launch, by the thread of Python
  double fused = 110;            // multiply-adds
  double shared_bytes = 118;     // from shared memory
  double slowdown = 2.6;         // of the kernel's product, against these two rates
  double streamed_bytes = 19.1;  // weights of a library's product, from L2 or memory
  double library_fused = 98;     // multiply-adds of a library's product
  double library_fused_16 = 1420;  // in 16 bits, by tensor cores
};
constexpr Costs kCosts;

// Whether the grid mode can count so many steps or rows.
bool fits_int(int64_t n) { return n < INT32_MAX; }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Work {
  const KernelSet& kernels;
  const Device& device;
  Sizes sizes;
  bool backward;

  double cycles(double amount, double rate) const {
    return amount / rate / (device.gigahertz * 1e3);
  }
  // k and columns of a unit in the recurrent product.
  KDim k_dim() const { return {sizes.H, backward ? kernels.gates : 1}; }
  int columns(int units) const { return units * (backward ? 1 : kernels.gates); }
  int64_t shared(int units, int rows) const {
    const int carried = backward ? kernels.states : kernels.states - 1;
    return GridLayout(kernels.element_bytes, k_dim(), columns(units), carried, rows, units).bytes;
  }
};

// A thread for each unit of a tile's rows, a warp for each part of the product, and for each two
// quads that are staged a thread.
int threads_of_block(const Work& w, int units, int rows) {
  const int of_tile = rows_of_tile(rows), staged = w.k_dim().staged(of_tile) * of_tile;
  const int64_t warps = ceil_div(w.columns(units), kTileColumns) * w.k_dim().staged_chunks(of_tile);
  const int64_t wanted = std::max({int64_t{of_tile} * units, warps * kLanes, ceil_div(staged, 8)});
  return static_cast<int>(std::min<int64_t>(ceil_div(wanted, kLanes) * kLanes, kMaxThreads));
}

// One step of a group of `blocks` with so many rows.
double grid_microseconds(const Work& w, int units, int rows, int blocks) {
  const double k = w.k_dim().size(), columns = w.columns(units);
  const int64_t tiles = ceil_div(rows, kTileRows);
  const int64_t stagings = ceil_div(w.k_dim().size(), w.k_dim().staged(rows_of_tile(rows)));
  const double tile_rows = std::min(rows, kTileRows);
  const double groups = static_cast<double>(ceil_div(w.columns(units), kTileColumns));
  const double product =
      std::max(w.cycles(tile_rows * k * columns, kCosts.fused),
               w.cycles(groups * k * (tile_rows * 4 + kTileColumns * w.kernels.element_bytes),
                        kCosts.shared_bytes));
  const double of_a_tile = static_cast<double>(stagings) * kCosts.tile + kCosts.slowdown * product;
  return kCosts.barrier + kCosts.barrier_per_block * blocks +
         static_cast<double>(tiles) * of_a_tile;
}

double step_microseconds(const Work& w) {
  const Sizes& n = w.sizes;
  const double weights = static_cast<double>(n.directions) * static_cast<double>(n.H) *
                         static_cast<double>(n.H) * w.kernels.gates;
  const double sms = w.device.processors;
  const double rate = w.kernels.element_bytes == 2 ? kCosts.library_fused_16 : kCosts.library_fused;
  const double product =
      std::max(w.cycles(weights * static_cast<double>(n.B), rate * sms),
               w.cycles(weights * w.kernels.element_bytes, kCosts.streamed_bytes * sms));
  return std::max(kCosts.issue, 2 * kCosts.launch + product);
}

Plan stepwise(const Work& w) {
  Plan plan;
  plan.mode = Mode::kStepwise;
  const int64_t units = w.sizes.directions * w.sizes.B * w.sizes.H;
  plan.threads =
      static_cast<int>(std::clamp<int64_t>(ceil_div(units, kLanes) * kLanes, kLanes, kMaxThreads));
  plan.blocks = static_cast<int>(
      std::clamp<int64_t>(ceil_div(units, plan.threads), 1, 32 * w.device.processors));
  plan.microseconds = step_microseconds(w);
  return plan;
}

const void* grid_kernel(const KernelSet& kernels, bool backward) {
  return backward ? reinterpret_cast<const void*>(kernels.grid_backward)
                  : reinterpret_cast<const void*>(kernels.grid_forward);
}

// The cheapest of all ways to share units and rows that fit; its blocks are 0 where none does.
Plan grid(const std::string& op, const Work& w) {
  Plan best;
  const void* kernel = grid_kernel(w.kernels, w.backward);
  const Sizes& n = w.sizes;
  if (!kernel || !w.device.cooperative || !fits_int(n.T) || !fits_int(n.B)) return best;
  for (int units = 1; units <= kMaxThreads / kTileRows; ++units) {
    if (units > n.H) break;
    const int64_t blocks = ceil_div(n.H, units);
    const int64_t max_replicas = w.device.processors / (blocks * n.directions);
    for (int64_t replicas = std::min<int64_t>(max_replicas, std::max<int64_t>(n.B, 1));
         replicas >= 1; replicas /= 2) {
      const int rows = static_cast<int>(std::max<int64_t>(ceil_div(n.B, replicas), 1));
      const int64_t shared = w.shared(units, rows);
      if (shared > w.device.shared_per_block) continue;
      const double cost = grid_microseconds(w, units, rows, static_cast<int>(blocks));
      if (best.blocks && cost >= best.microseconds) continue;
      const int threads = threads_of_block(w, units, rows);
      if (blocks_per_processor(op, kernel, threads, shared) < 1) continue;
      best.mode = Mode::kGrid;
      best.grid.replicas = static_cast<int>(ceil_div(std::max<int64_t>(n.B, 1), rows));
      best.grid.blocks_per_group = static_cast<int>(blocks);
      best.grid.units = units;
      best.grid.rows = rows;
      best.blocks = n.directions * best.grid.replicas * best.grid.blocks_per_group;
      best.threads = threads;
      best.shared = shared;
      best.microseconds = cost;
    }
  }
  return best;
}

}  // namespace

const char* name_of(Mode mode) {
  switch (mode) {
    case Mode::kGrid: return "grid";
    case Mode::kStepwise: return "stepwise";
    case Mode::kBest: break;
  }
  return "best";
}

Plan plan_pass(const std::string& op, const KernelSet& kernels, const Device& device,
               const Sizes& sizes, bool backward, Mode mode) {
  using Key = std::tuple<const KernelSet*, int, bool, int64_t, int64_t, int, bool, Mode>;
  static std::mutex mutex;
  static std::map<Key, Plan> kept;
  constexpr size_t kMaxPlans = 4096;
  const Key key{&kernels, device.index,     fits_int(sizes.T), sizes.B,
                sizes.H,  sizes.directions, backward,          mode};
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = kept.find(key);
  if (found != kept.end()) return found->second;
  const Work work{kernels, device, sizes, backward};
  Plan plan = stepwise(work);
  if (mode != Mode::kStepwise) {
    const Plan persistent = grid(op, work);
    if (persistent.blocks && (mode == Mode::kGrid || persistent.microseconds < plan.microseconds))
      plan = persistent;
    else if (mode == Mode::kGrid)
      throw Error(Fault::kNotImplemented, op,
                  "the grid mode must fit on the device (weights in shared memory, all blocks at "
                  "once, no float64), got H = " +
                      std::to_string(sizes.H) + " on " + std::to_string(device.processors) +
                      " SMs with " + std::to_string(device.shared_per_block) + " bytes each");
  }
  if (kept.size() >= kMaxPlans) kept.clear();
  return kept[key] = plan;
}

}  // namespace gpu
}  // namespace fastrnn
