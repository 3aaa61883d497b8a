#include "grid_mode.h"

#include "../core/problem.h"
#include "grid_plan.h"
#include "layout.h"

namespace fastrnn {
namespace gpu {

namespace {

// Arrays of a library may begin anywhere; rows are read in pieces of 16 bytes.
constexpr int64_t kAlignment = 32;

int64_t groups_of(const Plan& plan) { return plan.blocks / plan.grid.blocks_per_group; }

int64_t counter_bytes(const Plan& plan) { return 4 * groups_of(plan) * kCounterStride; }
// Both slots of the rows of all groups.
int64_t exchanged_bytes(const Plan& plan, int element_bytes) {
  const int each = plan.grid.way == ExchangeWay::kFlags ? kFlaggedBytes : element_bytes;
  return 2 * groups_of(plan) * plan.grid.rows * plan.grid.k * each;
}

char* aligned(char* p) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  return p + (kAlignment - at % kAlignment) % kAlignment;
}

template <class P>
void launch_pass(const Site& site, P& pass, void (*kernel)(P), const char* name) {
  const std::string& op = site.stack.spec.op;
  const Plan& plan = site.plan;
  const bool clusters = plan.grid.way == ExchangeWay::kCluster;
  pass.grid = plan.grid;
  pass.grid.name = name;
  with_reason(op, pass.scan.error, [&] {
    if (!clusters) {
      const View& memory = site.memory[0];
      char* const begin = aligned(memory.data);
      pass.grid.counters = reinterpret_cast<unsigned*>(begin);
      pass.grid.exchanged = begin + counter_bytes(plan);
      zero(op, begin, 4 * memory.shape[0] - kAlignment, site.stream);
    }
    const int cluster = clusters ? plan.grid.blocks_per_group : 0;
    launch(op, {plan.blocks, plan.threads, plan.shared, plan.cooperative, site.stream, cluster},
           kernel, pass);
  });
}

}  // namespace

Plan GridMode::plan(const Work& work) const {
  Plan plan = plan_grid(work, way_);
  plan.mode = this;
  return plan;
}

std::vector<Request> GridMode::memory(const Work& work, const Plan& plan) const {
  if (way_ == ExchangeWay::kCluster) return {};
  const int64_t bytes =
      counter_bytes(plan) + exchanged_bytes(plan, work.kernels.element_bytes) + kAlignment;
  return {{{bytes / 4}, Elements::kInt32}};
}

void GridMode::run(const Site& site, ForwardPass pass) const {
  const KernelSet& kernels = *site.stack.kernels;
  launch_pass(site, pass, kernels.grid_forward, kernels.grid_forward_name);
}
void GridMode::run(const Site& site, BackwardPass pass) const {
  const KernelSet& kernels = *site.stack.kernels;
  launch_pass(site, pass, kernels.grid_backward, kernels.grid_backward_name);
}

const Mode& grid_mode() {
  static const GridMode mode(ExchangeWay::kCounter, "grid",
                             "one product in a step, all blocks at once, no float64");
  return mode;
}

}  // namespace gpu
}  // namespace fastrnn
