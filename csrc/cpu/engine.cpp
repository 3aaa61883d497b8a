#include "engine.h"

#include "../core/dtype.h"
#include "../core/error.h"
#include "executor.h"

namespace fastrnn {

void run(const Weights& weights, const Problem& p, const Call& call) {
  const Spec& spec = weights.spec();
  CallMemory memory;
  check_call(spec, p, call);
  const Batch batch(spec, p, call, memory);
  const Threads threads(
      [&](int n) { return plan_pass(weights, p, call.backward(), batch.total, n); });
  const int groups = threads.plan.row_groups;
  const Prepared prepared(weights, p, call, threads.plan,
                          {batch.longest(), batch.total, batch.max_rows(groups),
                           batch.rows_of_last_step(), batch.offsets()},
                          memory.lists());
  execute({weights, call, p, batch, threads, prepared}, memory);
}

void run_with_parameters(Weights& weights, const Problem& p, Call& call) {
  if (takes_step(weights, p, call)) return step(weights, p, call);
  weights.pack(call.parameters, call.backward());
  if (call.backward() && call.recompute) weights.pack(call.parameters, false);
  call.parameters.clear();
  run(weights, p, call);
}

Weights weights_of(const Spec& sizes) {
  const ElementType type = dtype_named(sizes.op, dtype_name(sizes.kind, sizes.element_bytes));
  return Weights(sizes.op, type, sizes.layers, sizes.directions, sizes.inputs, sizes.units,
                 sizes.bias, sizes.projection);
}

Usage usage(const Weights& weights, const Problem& p, Kind kind) {
  Call call;
  call.kind = kind;
  const int64_t total = p.T * p.B;
  const Plan plan = plan_pass(weights, p, call.backward(), total, available_threads());
  const BatchSizes sizes{p.T, total, ceil_div(p.B, plan.row_groups), p.B, nullptr};
  const Prepared prepared(weights, p, call, plan, sizes, std::pmr::get_default_resource());
  return {plan, prepared.bytes};
}

}  // namespace fastrnn
