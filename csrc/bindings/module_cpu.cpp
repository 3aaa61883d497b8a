// fastrnn._cpu: the engine as Python sees it. Arguments are positional, arrays are taken as they
// are, and results are allocated here, as arrays of the same library.
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <optional>

#include "../core/dtype.h"
#include "../core/validate.h"
#include "../cpu/cpuid.h"
#include "../cpu/dispatch.h"
#include "../cpu/engine.h"
#include "../cpu/memory.h"
#include "../cpu/processors.h"
#include "../cpu/team.h"
#include "array.h"
#include "common.h"
#include "interpreter.h"
#include "shapes.h"

namespace fastrnn {

namespace {

// The engine's weights, and the library whose arrays they came as: a call with them takes and gives
// the same.
struct PyWeights : Weights {
  using Weights::Weights;
  const dlpack::Exchange* exchange = nullptr;
  Caller caller() const { return {spec(), exchange}; }
};

std::unique_ptr<PyWeights> new_weights(const std::string& cell, const std::string& dtype,
                                       int64_t layers, int64_t directions, int64_t inputs,
                                       int64_t units, bool bias) {
  if (dtype != "float32" && dtype != "float64")
    throw Error(Fault::kType, cell, "dtype must be float32 or float64, got " + dtype);
  return std::make_unique<PyWeights>(cell, dtype == "float32" ? 4 : 8, layers, directions, inputs,
                                     units, bias);
}

// Runs the engine while other threads of Python go on; where it takes a few microseconds, letting
// them go on would take as long.
template <class Run> void run_engine(const Spec& spec, double work, Run run) {
  constexpr double kWorthALock = 2e6;
  std::optional<OthersGoOn> others;
  if (work > kWorthALock) others.emplace();
  try {
    run();
  } catch (const Interrupted&) {
    others.reset();
    throw py::error_already_set();
  } catch (const std::bad_alloc&) {  // of the engine's own lists
    throw Error(Fault::kMemory, spec.op, "memory for the call must be available, got none");
  }
}

// Ctrl-C: runs the handlers of signals that came during a long call. Python runs them in its main
// thread alone, which is the process's first; others go on. True where a handler has raised.
bool signals_raise() {
  if (gettid() != getpid()) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}

// What forward takes for so many steps of one row: the operations of its products, and as many more
// as could be done in the time of a step's other work.
double work(const Spec& spec, int64_t steps) {
  constexpr double kStep = 4000;
  double of_a_step = 0;
  for (int64_t l = 0; l < spec.layers; ++l)
    of_a_step += kStep + 2.0 * static_cast<double>(spec.gates * spec.units) *
                             static_cast<double>(spec.layer_inputs(l) + spec.units);
  return static_cast<double>(steps * spec.directions) * of_a_step;
}

void pack_views(Weights& w, const std::vector<View>& views, bool backward) {
  // A weight is packed in the time of some thirty operations.
  run_engine(w.spec(), 16 * work(w.spec(), 1), [&] { w.pack(views, backward); });
}

void pack(PyWeights& w, py::tuple parameters, bool backward) {
  if (w.packed(backward)) return;
  Kept kept;
  pack_views(w, views_of(w.caller(), "a parameter", parameters, kept), backward);
}

// Weights of the sizes that a call's parameters have, not packed yet, and the parameters: what a
// call with parameters of another library begins with.
struct New {
  std::unique_ptr<PyWeights> weights;
  std::vector<View> parameters;
  Kept kept;

  New(const std::string& cell, int64_t layers, int64_t directions, py::tuple given) {
    Spec named{};
    named.op = cell;
    const Caller caller{named, given.empty() ? nullptr : dlpack::exchange_of(given[0])};
    parameters = views_of(caller, "a parameter", given, kept);
    const Spec sizes = sizes_of(cell, layers, directions, parameters);
    weights = new_weights(cell, dtype_name(sizes.kind, sizes.element_bytes), layers, directions,
                          sizes.inputs, sizes.units, sizes.bias);
    weights->exchange = caller.exchange;
  }
};

std::unique_ptr<PyWeights> pack_new(const std::string& cell, int64_t layers, int64_t directions,
                                    py::tuple parameters, bool forward, bool backward,
                                    int threads) {
  New made(cell, layers, directions, parameters);
  const TeamLimit limit(threads);
  if (forward) pack_views(*made.weights, made.parameters, false);
  if (backward) pack_views(*made.weights, made.parameters, true);
  return std::move(made.weights);
}

// The shape that y will have.
py::tuple output_shape(const PyWeights& w, py::handle x, bool batch_first) {
  const Spec& spec = w.spec();
  const Problem p = check_input(spec, view_of(w.caller(), "x", x), batch_first);
  return tuple_of(role_shape(Role::kY, spec, p));
}

void require_packed(const Weights& w, bool backward) {
  if (!w.packed(backward))
    throw Error(Fault::kRuntime, w.spec().op, "weights must be packed before use, got none");
}

// Arguments of both forward calls; makes y where no `out` is given.
Problem prepare(const PyWeights& w, Call& call, py::handle x, py::handle state, py::handle lengths,
                py::handle resets, py::handle masks, bool batch_first, int64_t recompute,
                py::object* out, Kept& kept) {
  const Spec& spec = w.spec();
  inputs_of(w.caller(), call, x, state, lengths, resets, masks, batch_first, recompute, kept);
  const Problem p = check_input(spec, call.x, batch_first, recompute);
  if (out->is_none())
    *out = make_result(w.caller(), role_shape(Role::kY, spec, p), &call.y);
  else
    call.y = view_of(w.caller(), "out", *out);
  return p;
}

// Results for one array of each state: the array, or a tuple of them.
py::object make_states(const Caller& caller, const Problem& p, View (&views)[kMaxStates]) {
  const Shape shape = role_shape(Role::kFinal, caller.spec, p);
  if (caller.spec.states == 1) return make_result(caller, shape, &views[0]);
  py::tuple arrays(static_cast<size_t>(caller.spec.states));
  for (size_t k = 0; k < arrays.size(); ++k) arrays[k] = make_result(caller, shape, &views[k]);
  return arrays;
}

// A view with one more dimension, of size 1, in front.
View with_one(const View& view) {
  if (!view.given || view.rank >= kMaxRank) return view;
  View more = view;
  ++more.rank;
  more.shape[0] = 1;
  more.strides[0] = 0;
  std::copy_n(view.shape, view.rank, more.shape + 1);
  std::copy_n(view.strides, view.rank, more.strides + 1);
  return more;
}

// Forward from the parameters, which are packed first unless it is a step that needs no packing.
void run_new(const New& made, const Call& call, const Problem& p) {
  PyWeights& w = *made.weights;
  const bool steps = takes_step(w.spec(), made.parameters, call);
  if (!steps) pack_views(w, made.parameters, false);
  run_engine(w.spec(), work(w.spec(), p.T * p.B),
             [&] { steps ? step(w, made.parameters, call) : run(w, call); });
}

// One step of one layer: x (B, I) or (I,), states (B, H) or (H,); the states after it.
py::tuple step_new(const std::string& cell, py::tuple parameters, py::handle x, py::handle state,
                   int threads) {
  const New made(cell, 1, 1, parameters);
  const PyWeights& w = *made.weights;
  const Spec& spec = w.spec();
  Call call;
  Kept kept;
  inputs_of(w.caller(), call, x, state, py::none(), py::none(), py::none(), false, 0, kept);
  call.x = with_one(call.x);
  for (View& view : call.initial) view = with_one(view);
  const Problem p = check_input(spec, call.x, false);
  const Shape shape = p.batched ? Shape{p.B, spec.units} : Shape{spec.units};
  py::tuple after(static_cast<size_t>(spec.states));
  for (size_t k = 0; k < after.size(); ++k) {
    View& view = k == 0 ? call.y : call.final[k];  // h is the output
    after[k] = make_result(w.caller(), shape, &view);
    view = with_one(view);
  }
  const TeamLimit limit(threads);
  run_new(made, call, p);
  return after;
}

// y (out, if given) and the final state.
py::tuple run_infer(const PyWeights& w, py::handle x, py::handle state, py::handle lengths,
                    py::handle resets, py::handle masks, bool batch_first, py::object out,
                    int threads) {
  require_packed(w, false);
  Call call;
  Kept kept;
  const Problem p = prepare(w, call, x, state, lengths, resets, masks, batch_first, 0, &out, kept);
  const py::object final = make_states(w.caller(), p, call.final);
  const TeamLimit limit(threads);
  run_engine(w.spec(), work(w.spec(), p.T * p.B), [&] { run(w, call); });
  return py::make_tuple(out, final);
}

// What pack_new and then infer do.
py::tuple infer_new(const std::string& cell, int64_t layers, int64_t directions,
                    py::tuple parameters, py::handle x, py::handle state, py::handle lengths,
                    py::handle resets, py::handle masks, bool batch_first, int threads) {
  const New made(cell, layers, directions, parameters);
  const PyWeights& w = *made.weights;
  Call call;
  Kept kept;
  py::object y = py::none();
  const Problem p = prepare(w, call, x, state, lengths, resets, masks, batch_first, 0, &y, kept);
  const py::object final = make_states(w.caller(), p, call.final);
  const TeamLimit limit(threads);
  run_new(made, call, p);
  return py::make_tuple(y, final);
}

// The same, and the tape's three arrays.
py::tuple run_forward(const PyWeights& w, py::handle x, py::handle state, py::handle lengths,
                      py::handle resets, py::handle masks, bool batch_first, int64_t recompute,
                      py::object out, int threads) {
  const Spec& spec = w.spec();
  require_packed(w, false);
  Call call;
  Kept kept;
  const Problem p =
      prepare(w, call, x, state, lengths, resets, masks, batch_first, recompute, &out, kept);
  const Caller caller = w.caller();
  const py::object final = make_states(caller, p, call.final);
  call.pass = Pass::kForward;
  const auto shape = [&](Role role) { return role_shape(role, spec, p); };
  const py::tuple tape = py::make_tuple(make_result(caller, shape(Role::kInner), &call.inner),
                                        make_result(caller, shape(Role::kStates), &call.states),
                                        make_result(caller, shape(Role::kSaved), &call.saved));
  const TeamLimit limit(threads);
  run_engine(spec, work(spec, p.T * p.B), [&] { run(w, call); });
  return py::make_tuple(out, final, tape);
}

// dx, the gradient of the initial state, and those of the parameters in their order. None in place
// of the first, and of the last, where they are not wanted.
py::tuple run_backward(const PyWeights& w, py::handle x, py::handle state, py::handle lengths,
                       py::handle resets, py::handle masks, bool batch_first, py::handle y,
                       py::handle tape, int64_t recompute, py::handle dy, py::handle dstate,
                       bool want_dx, bool want_parameters, int threads) {
  const Spec& spec = w.spec();
  const Caller caller = w.caller();
  require_packed(w, true);
  if (recompute) require_packed(w, false);
  Call call;
  call.pass = Pass::kBackward;
  Kept kept;
  inputs_of(caller, call, x, state, lengths, resets, masks, batch_first, recompute, kept);
  const Problem p = check_input(spec, call.x, batch_first, recompute);
  call.y = view_of(caller, "y of the tape", y);
  tape_of(caller, tape, call, kept);
  call.dy = view_of(caller, "dy", dy);
  states_of(caller, "dstate", dstate, call.dfinal, kept);
  py::object dx = py::none(), grads = py::none();
  if (want_dx) dx = make_result(caller, p.sequence(spec.inputs), &call.dx);
  const py::object dinitial = make_states(caller, p, call.dinitial);
  if (want_parameters) {
    const std::vector<Parameter> parameters = parameters_of(spec);
    call.dparameters.resize(parameters.size());
    py::tuple all(parameters.size());
    for (size_t i = 0; i < parameters.size(); ++i)
      all[i] = make_result(caller, parameters[i].shape, &call.dparameters[i]);
    grads = all;
  }
  const TeamLimit limit(threads);
  run_engine(spec, 2 * work(spec, p.T * p.B), [&] { run(w, call); });
  return py::make_tuple(dx, dinitial, grads);
}

py::dict plan_dict(const Usage& usage) {
  py::dict d;
  d["regime"] = usage.plan.regime;
  d["threads"] = usage.plan.threads();
  d["row_groups"] = usage.plan.row_groups;
  d["unit_members"] = usage.plan.unit_members;
  d["recurrence_threads"] = usage.plan.recurrence_threads;
  d["chunk_steps"] = usage.plan.chunk;
  d["workspace_bytes"] = usage.workspace;
  d["model_microseconds"] = usage.plan.microseconds;
  return d;
}

// How many threads a call may have now, and what limits them.
py::dict available_dict() {
  const Available now = available();
  py::dict d;
  d["threads"] = now.threads;
  d["why"] = now.why;
  return d;
}

py::dict explain(const PyWeights& w, int64_t T, int64_t B, int64_t recompute) {
  const Spec& spec = w.spec();
  const KernelEntry& k = w.kernel();
  check_sizes(spec, T, B);
  Problem p;
  p.T = T, p.B = B, p.recompute = recompute;
  int64_t tape_bytes = 0;
  for (const Role role : {Role::kInner, Role::kStates, Role::kSaved})
    tape_bytes += role_bytes(rule_of(role), spec, 0) * elements_of(role_shape(role, spec, p));
  py::dict d, tile;
  d["cell"] = spec.op;
  d["dtype"] = spec.element_bytes == 4 ? "float32" : "float64";
  d["level"] = k.level;
  tile["lanes"] = k.lanes;
  tile["rows"] = k.tile_rows;
  tile["panel_units"] = k.panel_units;
  d["tile"] = tile;
  d["forward"] = plan_dict(usage(w, p, Pass::kInfer));
  d["forward_with_tape"] = plan_dict(usage(w, p, Pass::kForward));
  d["backward"] = plan_dict(usage(w, p, Pass::kBackward));
  d["available"] = available_dict();
  d["tape_bytes"] = tape_bytes;
  d["packed_bytes"] = w.bytes();
  return d;
}

py::list cells() {
  py::list all;
  for (const std::string& name : cell_names()) {
    const KernelEntry& k = find_kernel(name, 4);
    py::dict d;
    d["name"] = name;
    d["gates"] = k.gates;
    d["states"] = k.states;
    d["saved"] = k.saved;
    all.append(d);
  }
  return all;
}

}  // namespace

FASTRNN_MODULE(_cpu, m) {
  m.doc() = "The CPU engine of fastrnn.";
  m.attr("__version__") = FASTRNN_VERSION;
  translate_errors(m);
  // A child of fork() must know that it is one, whenever the first call comes.
  available_threads();
  set_poll(signals_raise);

  py::class_<PyWeights>(m, "Weights", py::module_local())
      .def(py::init(&new_weights), py::arg("cell"), py::arg("dtype"), py::arg("layers"),
           py::arg("directions"), py::arg("inputs"), py::arg("units"), py::arg("bias"))
      .def("pack", &pack, py::arg("parameters"), py::arg("backward"))
      .def("output_shape", &output_shape, py::arg("x"), py::arg("batch_first"))
      .def("infer", &run_infer, py::arg("x"), py::arg("state"), py::arg("lengths"),
           py::arg("resets"), py::arg("masks"), py::arg("batch_first"), py::arg("out"),
           py::arg("threads") = 0)
      .def("forward", &run_forward, py::arg("x"), py::arg("state"), py::arg("lengths"),
           py::arg("resets"), py::arg("masks"), py::arg("batch_first"), py::arg("recompute"),
           py::arg("out"), py::arg("threads") = 0)
      .def("backward", &run_backward, py::arg("x"), py::arg("state"), py::arg("lengths"),
           py::arg("resets"), py::arg("masks"), py::arg("batch_first"), py::arg("y"),
           py::arg("tape"), py::arg("recompute"), py::arg("dy"), py::arg("dstate"),
           py::arg("want_dx") = true, py::arg("want_parameters") = true, py::arg("threads") = 0)
      .def("explain", &explain, py::arg("T"), py::arg("B"), py::arg("recompute"))
      .def_property_readonly("parameters", [](const PyWeights& w) {
        py::list all;
        for (const Parameter& p : parameters_of(w.spec()))
          all.append(py::make_tuple(p.name, tuple_of(p.shape)));
        return all;
      });

  m.def("pack_new", &pack_new, py::arg("cell"), py::arg("layers"), py::arg("directions"),
        py::arg("parameters"), py::arg("forward"), py::arg("backward"), py::arg("threads") = 0);
  m.def("infer_new", &infer_new, py::arg("cell"), py::arg("layers"), py::arg("directions"),
        py::arg("parameters"), py::arg("x"), py::arg("state"), py::arg("lengths"),
        py::arg("resets"), py::arg("masks"), py::arg("batch_first"), py::arg("threads") = 0);
  m.def("step_new", &step_new, py::arg("cell"), py::arg("parameters"), py::arg("x"),
        py::arg("state"), py::arg("threads") = 0);
  m.def("result_shapes", &result_shapes, py::arg("cell"), py::arg("layers"), py::arg("directions"),
        py::arg("x"), py::arg("units"), py::arg("batch_first"), py::arg("recompute"));
  m.def("cells", &cells);
  m.def("built_levels", &built_levels);
  m.def("usable_levels", &usable_levels);
  m.def("level", &level_in_use);
  m.def("use_level", &use_level, py::arg("level"));
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &get_num_threads);
  m.def("team", &team_backend);
  m.def("available", &available_dict);
  m.def("processors", [] {
    py::dict d;
    d["affinity"] = affinity_processors();
    d["quota"] = quota_processors();
    d["usable"] = processors();
    return d;
  });
  m.def(
      "quota_processors", [](const std::string& root) { return quota_processors(root); },
      py::arg("root"));
  m.def("pretend_processors", &pretend_processors, py::arg("n"));
  m.def("release_memory", &release_memory);
  m.def("caches", [] {
    py::dict d;
    d["l1d"] = caches().l1d;
    d["l2"] = caches().l2;
    d["l3"] = caches().l3;
    return d;
  });
  m.def("compiler", [] {
#if defined(__clang__)
    return __VERSION__;
#else
    return "g++ " __VERSION__;
#endif
  });
}

}  // namespace fastrnn
