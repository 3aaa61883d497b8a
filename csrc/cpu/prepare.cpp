#include "prepare.h"

#include <algorithm>

namespace fastrnn {

namespace {

int64_t widest_input(const Spec& spec) {
  return spec.layers > 1 ? std::max(spec.inputs, spec.layer_outputs()) : spec.inputs;
}

}  // namespace

Plan plan_pass(const KernelEntry& kernel, const Spec& spec, const Problem& problem, bool backward,
               int64_t total_steps, int threads) {
  return backward ? plan_backward(kernel, spec, problem, total_steps, threads)
                  : plan_forward(kernel, spec, problem, total_steps, threads);
}

Prepared::Prepared(const KernelEntry& kernel, const Spec& spec, const Problem& p, const Call& call,
                   const Plan& plan, const BatchSizes& sizes, std::pmr::memory_resource* memory)
    : window(recomputes(spec, p) ? window_steps(p, plan.chunk) : std::max<int64_t>(1, p.T)),
      program(lower(spec, p, call, {false, sizes.steps, window, sizes.offsets}, memory)),
      max_rows(sizes.max_rows),
      buffers(memory) {
  const bool back = call.backward(), again = back && recomputes(spec, p);
  if (back) backward_rows = std::min(plan.chunk, window) * p.B - sizes.fewest;
  const Plan forwards = again ? plan_forward(kernel, spec, p, sizes.total, plan.threads()) : plan;
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
  const int64_t H = spec.units, P = spec.outputs(), I = widest_input(spec);
  if (call.kind == Kind::kInfer)
    states = take((spec.states - 1) * p.B * H * spec.accumulator_bytes());
  if (!back || again)
    forward =
        take_for_members(kernel.forward_scratch(I, H, P, max_rows, forward_rows, call.has_masks));
  if (!back) return;
  shared = take(kernel.backward_shared(I, H, P, p.B, backward_rows));
  backward = take_for_members(kernel.backward_scratch(H, P, p.B, max_rows, backward_rows));
}

}  // namespace fastrnn
