#include "prepare.h"

#include <algorithm>

namespace fastrnn {

namespace {

int64_t widest_input(const Spec& spec) {
  return spec.layers > 1 ? std::max(spec.inputs, spec.layer_outputs()) : spec.inputs;
}

}  // namespace

Plan plan_pass(const Weights& weights, const Problem& problem, bool backward, int64_t total_steps,
               int threads) {
  const KernelEntry& kernel = weights.kernel();
  const Spec& spec = weights.spec();
  return backward ? plan_backward(kernel, spec, problem, total_steps, threads)
                  : plan_forward(kernel, weights.product(), spec, problem, total_steps, threads);
}

Prepared::Prepared(const Weights& weights, const Problem& p, const Call& call, const Plan& plan,
                   const BatchSizes& batch, std::pmr::memory_resource* memory)
    : window(recomputes(weights.spec(), p) ? window_steps(p, plan.chunk)
                                           : std::max<int64_t>(1, p.T)),
      program(lower(weights.spec(), p, call, {false, batch.steps, window, batch.offsets}, memory)),
      max_rows(batch.max_rows),
      buffers(memory) {
  const KernelEntry& kernel = weights.kernel();
  const Spec& spec = weights.spec();
  const bool back = call.backward(), again = back && recomputes(spec, p);
  if (back) backward_rows = std::min(plan.chunk, window) * p.B - batch.fewest;
  const Plan forwards = again ? plan_pass(weights, p, false, batch.total, plan.threads()) : plan;
  if (!back || again) forward_rows = std::min(window, forwards.chunk) * max_rows;

  const auto take = [this](int64_t size) {
    const int64_t at = bytes;
    bytes += whole_lines(size);
    return at;
  };
  const auto take_for_members = [&](int64_t size) {
    return MemberScratch{take(plan.threads() * whole_lines(size)), whole_lines(size)};
  };
  buffers.reserve(program.buffers.size());
  for (const Buffer& buffer : program.buffers) {
    const int64_t element = buffer.accumulator ? spec.accumulator_bytes() : spec.element_bytes;
    buffers.push_back(buffer.scratch ? take(elements_of(buffer.shape) * element) : 0);
  }
  if (call.kind == Kind::kInfer)
    states = take((spec.states - 1) * p.B * spec.units * spec.accumulator_bytes());
  PassSizes sizes{
      widest_input(spec),          spec.units,     spec.outputs(),    p.B, max_rows, forward_rows,
      masks_of_row(spec, p, call), call.has_masks, &weights.product()};
  if (!back || again) forward = take_for_members(kernel.forward_scratch(&sizes));
  if (!back) return;
  sizes.chunk_rows = backward_rows;
  shared = take(kernel.backward_shared(&sizes));
  backward = take_for_members(kernel.backward_scratch(&sizes));
}

}  // namespace fastrnn
