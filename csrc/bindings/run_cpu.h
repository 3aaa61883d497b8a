// Calls of the CPU engine.
#pragma once

#include <algorithm>

#include "weights.h"

namespace fastrnn {

// Runs a call; for parameters that are not packed, packs them first unless it is a step that needs
// no packing.
inline void run_or_step(PyWeights& w, const Problem& p, Call& call) {
  const Spec& spec = w.spec();
  const double work = work_of(spec, p.packed ? p.rows : p.T * p.B) * (call.backward() ? 2 : 1);
  if (!call.parameters.empty()) {
    if (takes_step(w, p, call)) {
      run_engine(spec, work, [&] { step(w, p, call); });
      return;
    }
    pack_views(w, call.parameters, false);
    call.parameters.clear();
  }
  run_engine(spec, work, [&] { run(w, p, call); });
}

inline py::tuple run_fields(PyWeights& w, const py::tuple& values, std::vector<View> parameters) {
  const Spec& spec = w.spec();
  const Caller caller = w.caller();
  const Fields fields(spec.op, values);
  Kept kept;
  Call call = read_call(caller, fields, kept);
  if (parameters.empty()) {
    require_packed(w, call.backward());
    if (call.backward() && call.recompute) require_packed(w, false);
  }
  call.parameters = std::move(parameters);
  const Problem p = check_rows(spec, call);
  std::vector<py::object> made;
  made.reserve(8);
  for_new_results(spec, p, fields, call, [&](const RoleRule& rule, int64_t i, const Shape& shape) {
    made.push_back(
        make_result(caller, type_of_role(rule, spec, i), shape, &item_of(rule, i, call)));
  });
  const TeamLimit limit(static_cast<int>(fields.number(kThreads)));
  run_or_step(w, p, call);
  return tuple_of_results(spec, fields, call, made);
}

// A call with packed weights.
inline py::tuple run_packed(PyWeights& w, const py::tuple& call) { return run_fields(w, call, {}); }

// What pack_new and then a call that keeps no tape do.
inline py::tuple run_new(const std::string& cell, int64_t layers, int64_t directions,
                         const py::tuple& parameters, const py::tuple& call) {
  NewWeights made(cell, layers, directions, parameters);
  if (Fields(cell, call).kind() != Kind::kInfer)
    throw Error(Fault::kValue, cell, "a call with parameters must keep no tape, got another kind");
  return run_fields(*made.weights, call, std::move(made.parameters));
}

// A view with one more dimension, of size 1, in front.
inline View with_one(const View& view) {
  if (!view.given || view.rank >= kMaxRank) return view;
  View more = view;
  ++more.rank;
  more.shape[0] = 1;
  more.strides[0] = 0;
  std::copy_n(view.shape, view.rank, more.shape + 1);
  std::copy_n(view.strides, view.rank, more.strides + 1);
  return more;
}

// Of a step's x or state: it has a batch, or it has none.
inline View step_view(const Spec& spec, const char* name, const View& view, const char* shapes) {
  if (view.given && view.rank != 1 && view.rank != 2)
    throw Error(
        Fault::kRank, spec.op,
        std::string(name) + " must have shape " + shapes + ", got " + to_string(shape_of(view)));
  return with_one(view);
}

// One step of one layer: x (B, I) or (I,), states (B, H) or (H,); the states after it, a tuple.
inline py::tuple step_views(PyWeights& w, py::handle x, py::handle state, int threads,
                            std::vector<View> parameters) {
  const Spec& spec = w.spec();
  const Caller caller = w.caller();
  Call call;
  Kept kept;
  call.x = step_view(spec, "x", view_of(caller, "x", x), "(B, I) or (I,)");
  states_of(caller, "state", state, call.initial, kept);
  for (View& view : call.initial) view = step_view(spec, "state", view, "(B, H) or (H,)");
  call.parameters = std::move(parameters);
  const Problem p = check_input(spec, call.x, false);
  py::tuple after(static_cast<size_t>(spec.states));
  for (size_t k = 0; k < after.size(); ++k) {
    View& view = k == 0 ? call.y : call.final[k];  // h is the output
    const int64_t width = spec.state_width(static_cast<int64_t>(k));
    const ElementType type = k == 0 ? spec.element() : spec.accumulator();
    after[k] = make_result(caller, type, p.batched ? Shape{p.B, width} : Shape{width}, &view);
    view = with_one(view);
  }
  const TeamLimit limit(threads);
  run_or_step(w, p, call);
  return after;
}

inline py::tuple step_packed(PyWeights& w, py::handle x, py::handle state, int threads) {
  require_packed(w, false);
  return step_views(w, x, state, threads, {});
}

inline py::tuple step_new(const std::string& cell, const py::tuple& parameters, py::handle x,
                          py::handle state, int threads) {
  NewWeights made(cell, 1, 1, parameters);
  return step_views(*made.weights, x, state, threads, std::move(made.parameters));
}

}  // namespace fastrnn
