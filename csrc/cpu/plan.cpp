#include "plan.h"

#include <algorithm>

#include "cpuid.h"

namespace fastrnn {

namespace {

// The cost model, in cycles of one core. Rough on purpose: it only has to order the ways to split.
namespace cost {
constexpr double kFmasPerCycle = 2;
constexpr double kBytesL1 = 64, kBytesL2 = 32, kBytesL3 = 20, kBytesMemory = 6;
constexpr double kCellPerVector = 60;  // the cell's maths, a vector of units of one row
constexpr double kStepOverhead = 120;  // pointers and calls of a step
constexpr double kBarrier = 300;
constexpr double kBytesOfOthers = 0.6;  // what another member has just written: 100 a cache line
constexpr double kTeamStart = 12000;    // waking a team; under a few of these stay serial
constexpr double kCyclesPerMicrosecond = 3000;
}  // namespace cost

double bytes_per_cycle(double bytes) {
  const Caches& c = caches();
  if (bytes <= 0.75 * c.l1d) return cost::kBytesL1;
  if (bytes <= 0.75 * c.l2) return cost::kBytesL2;
  if (bytes <= 0.75 * c.l3) return cost::kBytesL3;
  return cost::kBytesMemory;
}

double ceil_div(double a, double b) {
  return static_cast<double>(static_cast<int64_t>((a + b - 1) / b));
}

// What a weight of a product costs: bytes to read, and how many an FMA's time multiplies.
struct WeightCost {
  double bytes, per_fma;
};
WeightCost cost_in(const ProductEntry& p) {
  const double values = p.lane_values;
  return {p.lane_bytes / values, values / p.parts};
}

struct StepCost {
  double arithmetic, weights, product, cell, exchange;
  double total() const { return product + cell + exchange + cost::kStepOverhead; }
};

// One step of one recurrence thread: `rows` rows and its part of the units. `planes` values of each
// unit go into the product, and one into a second product; those of other threads are read from
// where these have written them.
StepCost step_cost(const KernelEntry& k, const WeightCost& weight, const Spec& spec, double rows,
                   int recurrence_threads, double planes) {
  const double H = static_cast<double>(spec.units), P = static_cast<double>(spec.outputs());
  const double units = ceil_div(ceil_div(H, k.lanes), recurrence_threads) * k.lanes;
  const double weights =
      k.phase[0].layout.gates * units * P + k.phase[1].layout.gates * units * (k.projects ? P : H);
  const double bytes = weights * weight.bytes;
  const double tiles = ceil_div(rows, k.tile_rows);
  StepCost c{};
  c.arithmetic = rows * weights / (cost::kFmasPerCycle * k.lanes * weight.per_fma);
  // The first tile brings a panel from where the weights are, the others find it in L2.
  const double first = bytes / bytes_per_cycle(bytes), next = bytes / cost::kBytesL2;
  c.weights = first + (tiles - 1) * std::min(first, next);
  c.product = std::max(c.arithmetic / tiles, first) +
              (tiles - 1) * std::max(c.arithmetic / tiles, std::min(first, next));
  c.cell = rows * units / k.lanes * cost::kCellPerVector;
  if (recurrence_threads > 1)
    c.exchange = k.phases * cost::kBarrier + rows * (planes + (k.phases - 1)) * (H - units) *
                                                 k.element_bytes / cost::kBytesOfOthers;
  return c;
}

const char* regime_of(const StepCost& c) {
  if (c.cell + c.exchange + cost::kStepOverhead > c.product) return "latency";
  return c.weights > c.arithmetic ? "weight bandwidth" : "arithmetic";
}

Plan best_split(const KernelEntry& k, const WeightCost& weight, const Spec& spec, const Problem& p,
                int64_t total_steps, int threads, bool backward) {
  // Forward continues the chains of x W with h R. Backward has dgates R in a step, and dx and dW of
  // both matrices beside it.
  const double planes = backward ? static_cast<double>(k.gates) : 1;
  const double H = static_cast<double>(spec.units), I = static_cast<double>(spec.inputs);
  const double active = p.T ? static_cast<double>(total_steps) / p.T : 0;
  const double panels = ceil_div(H, k.phase[0].layout.blocks * k.lanes);
  Plan best{};
  double best_cycles = -1;
  const auto consider = [&](int row_groups, int unit_members, int recurrence_threads) {
    const bool team = row_groups * unit_members > 1;
    const double rows = ceil_div(active, row_groups);
    const StepCost step = step_cost(k, weight, spec, rows, recurrence_threads, planes);
    const double spread = rows * k.gates * H * (backward ? 2 * I + H : I) / unit_members /
                          (cost::kFmasPerCycle * k.lanes * weight.per_fma);
    const double cycles = p.T * (step.total() + spread) + (team ? cost::kTeamStart : 0);
    if (best_cycles >= 0 && cycles >= best_cycles) return;
    best_cycles = cycles;
    best.regime = regime_of(step);
    best.row_groups = row_groups, best.unit_members = unit_members,
    best.recurrence_threads = recurrence_threads;
    best.microseconds = cycles * spec.layers * spec.directions / cost::kCyclesPerMicrosecond;
  };
  consider(1, 1, 1);
  best.worth_a_team = best_cycles > cost::kTeamStart;  // else no team can be quicker
  if (!best.worth_a_team) return best;
  for (int unit_members = 1; unit_members <= threads; unit_members *= 2)
    for (int row_groups = 1; row_groups * unit_members <= threads; ++row_groups) {
      if (row_groups > std::max<int64_t>(1, p.B)) break;
      if (unit_members <= panels) consider(row_groups, unit_members, unit_members);
      consider(row_groups, unit_members, 1);
    }
  return best;
}

int64_t clamp(int64_t n, int64_t low, int64_t high) { return std::max(low, std::min(n, high)); }

}  // namespace

Plan plan_forward(const KernelEntry& k, const ProductEntry& product, const Spec& spec,
                  const Problem& p, int64_t total_steps, int threads) {
  Plan plan = best_split(k, cost_in(product), spec, p, total_steps, threads, false);
  // The projected gates of a chunk are written once and read once: half of L2 keeps them there.
  const int64_t width = (spec.units + k.lanes) * k.gates;
  const int64_t row = width * k.accumulator_bytes / plan.recurrence_threads;
  const int64_t rows = std::max<int64_t>(1, p.B / plan.row_groups);
  plan.chunk = clamp(caches().l2 / 2 / (rows * row), 1, std::max<int64_t>(1, p.T));
  return plan;
}

Plan plan_backward(const KernelEntry& k, const Spec& spec, const Problem& p, int64_t total_steps,
                   int threads) {
  const WeightCost weight{static_cast<double>(k.element_bytes), 1};
  Plan plan = best_split(k, weight, spec, p, total_steps, threads, true);
  // A chunk is the K of the weight gradients: long enough that reading and writing dW is little
  // beside the arithmetic, short enough that what all members read stays near.
  const int64_t widest = std::max(spec.inputs, spec.layer_outputs());
  const int64_t beside = spec.outputs() + (k.phases - 1) * 2 * (spec.units + spec.projection);
  const int64_t row = (2 * k.planes * spec.units + widest + beside) * k.factor_bytes;
  const int64_t rows = std::max<int64_t>(1, p.B);
  const int64_t near = caches().l2 / (rows * row), enough = (192 + rows - 1) / rows;
  plan.chunk = clamp(std::max(near, enough), 1, std::max<int64_t>(1, p.T));
  return plan;
}

}  // namespace fastrnn
