#include "cpu.h"

#include "../cpu/dispatch.h"
#include "../cpu/engine.h"
#include "frame.h"

namespace fastrnn::xla {

namespace {

thread_local bool inside = false;
struct Inside {
  Inside() { inside = true; }
  ~Inside() { inside = false; }
};

// A call with the weights that its parameters say, not packed yet.
struct CpuCall {
  Call call;
  Weights weights;
  Problem problem;

  CpuCall(const Request& request, const Arrays& arrays)
      : call(call_of(request, find_kernel(request.cell, kFloat32).states, arrays)),
        weights(weights_of(sizes_of(request.cell, request.options[kLayers],
                                    request.options[kDirections], call.parameters))),
        problem(check_rows(weights.spec(), call)) {}
};

void run_frame(const CallFrame& frame) {
  CpuCall made(request_of(frame), arrays_of(frame, kHost));
  run_with_parameters(made.weights, made.problem, made.call);
}

}  // namespace

bool in_call() { return inside; }

Error* call_cpu(CallFrame* frame) {
  if (answers_query(frame) || frame->stage != kExecute) return nullptr;
  const Inside here;
  return report_errors(*frame, run_frame);
}

void check_cpu(const Request& request, const Arrays& arrays) {
  const CpuCall made(request, arrays);
  check_parameters(made.weights.spec(), made.call.parameters);
  check_call(made.weights.spec(), made.problem, made.call);
}

}  // namespace fastrnn::xla
