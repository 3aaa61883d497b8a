// fastrnn._cpu: the engine as Python sees it. Arguments are positional, arrays are taken as they
// are, and results are allocated here.
#include <new>
#include <optional>

#include "../core/cpuid.h"
#include "../core/dispatch.h"
#include "../core/validate.h"
#include "../cpu/engine.h"
#include "../cpu/memory.h"
#include "../cpu/team.h"
#include "array.h"

namespace fastrnn {

namespace {

py::tuple tuple_of(const Shape& shape) {
  py::tuple result(static_cast<size_t>(shape.size()));
  for (int i = 0; i < shape.size(); ++i) result[static_cast<size_t>(i)] = shape[i];
  return result;
}

// Runs the engine while other threads of Python go on; where it takes a few microseconds, letting
// them go on would take as long.
template <class Run> void run_engine(const Spec& spec, double work, Run run) {
  constexpr double kWorthALock = 2e6;
  std::optional<py::gil_scoped_release> release;
  if (work > kWorthALock) release.emplace();
  try {
    run();
  } catch (const std::bad_alloc&) {  // of the engine's own lists
    throw Error(Fault::kMemory, spec.op, "memory for the call must be available, got none");
  }
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

void pack(Weights& w, py::tuple parameters, bool backward) {
  if (w.packed(backward)) return;
  Kept kept;
  const std::vector<View> views = views_of(w.spec().op, "a parameter", parameters, kept);
  // A weight is packed in the time of some thirty operations.
  run_engine(w.spec(), 16 * work(w.spec(), 1), [&] { w.pack(views, backward); });
}

// The shape that y will have.
py::tuple output_shape(const Weights& w, py::handle x, bool batch_first) {
  const Spec& spec = w.spec();
  const Problem p = check_input(spec, view_of(spec.op, "x", x), batch_first);
  return tuple_of(p.sequence(spec.directions * spec.units));
}

template <class Call> void inputs_of(const Spec& spec, Call& call, py::handle x, py::handle state,
                                     py::handle lengths, py::handle resets, py::handle masks,
                                     bool batch_first, Kept& kept) {
  call.x = view_of(spec.op, "x", x);
  states_of(spec, "state", state, call.initial, kept);
  call.lengths = view_of(spec.op, "lengths", lengths);
  call.resets = view_of(spec.op, "resets", resets);
  call.has_masks = !masks.is_none();
  if (call.has_masks) call.masks = views_of(spec.op, "dropout_masks", masks, kept);
  call.batch_first = batch_first;
}

void require_packed(const Weights& w, bool backward) {
  if (!w.packed(backward))
    throw Error(Fault::kRuntime, w.spec().op, "weights must be packed before use, got none");
}

// Arguments of both forward calls; makes y where no `out` is given.
Problem prepare(const Weights& w, ForwardCall& call, py::handle x, py::handle state,
                py::handle lengths, py::handle resets, py::handle masks, bool batch_first,
                int64_t recompute, py::object* out, Kept& kept) {
  const Spec& spec = w.spec();
  require_packed(w, false);
  inputs_of(spec, call, x, state, lengths, resets, masks, batch_first, kept);
  call.recompute = recompute;
  const Problem p = check_input(spec, call.x, batch_first, recompute);
  if (out->is_none())
    *out = make_result(spec, p.sequence(spec.directions * spec.units), &call.y);
  else
    call.y = view_of(spec.op, "out", *out);
  return p;
}

// Results for one array of each state: the array, or a tuple of them.
py::object make_states(const Spec& spec, const Problem& p, View (&views)[kMaxStates]) {
  const Shape shape = state_shape(spec, p);
  if (spec.states == 1) return make_result(spec, shape, &views[0]);
  py::tuple arrays(static_cast<size_t>(spec.states));
  for (size_t k = 0; k < arrays.size(); ++k) arrays[k] = make_result(spec, shape, &views[k]);
  return arrays;
}

// y (out, if given) and the final state.
py::tuple run_infer(const Weights& w, py::handle x, py::handle state, py::handle lengths,
                    py::handle resets, py::handle masks, bool batch_first, py::object out) {
  ForwardCall call;
  Kept kept;
  const Problem p = prepare(w, call, x, state, lengths, resets, masks, batch_first, 0, &out, kept);
  const py::object final = make_states(w.spec(), p, call.final);
  run_engine(w.spec(), work(w.spec(), p.T * p.B), [&] { forward(w, call); });
  return py::make_tuple(out, final);
}

// The same, and the tape's three arrays.
py::tuple run_forward(const Weights& w, py::handle x, py::handle state, py::handle lengths,
                      py::handle resets, py::handle masks, bool batch_first, int64_t recompute,
                      py::object out) {
  const Spec& spec = w.spec();
  ForwardCall call;
  Kept kept;
  const Problem p =
      prepare(w, call, x, state, lengths, resets, masks, batch_first, recompute, &out, kept);
  const py::object final = make_states(spec, p, call.final);
  call.keep_tape = true;
  const TapeShapes shapes = tape_shapes(spec, p);
  const py::tuple tape = py::make_tuple(make_result(spec, shapes.inner, &call.tape.inner),
                                        make_result(spec, shapes.states, &call.tape.states),
                                        make_result(spec, shapes.saved, &call.tape.saved));
  run_engine(spec, work(spec, p.T * p.B), [&] { forward(w, call); });
  return py::make_tuple(out, final, tape);
}

// dx, the gradient of the initial state, and those of the parameters in their order.
py::tuple run_backward(const Weights& w, py::handle x, py::handle state, py::handle lengths,
                       py::handle resets, py::handle masks, bool batch_first, py::handle y,
                       py::handle tape, int64_t recompute, py::handle dy, py::handle dstate) {
  const Spec& spec = w.spec();
  require_packed(w, true);
  if (recompute) require_packed(w, false);
  BackwardCall call;
  Kept kept;
  inputs_of(spec, call, x, state, lengths, resets, masks, batch_first, kept);
  call.recompute = recompute;
  const Problem p = check_input(spec, call.x, batch_first, recompute);
  call.y = view_of(spec.op, "y of the tape", y);
  const std::vector<View> arrays = views_of(spec.op, "arrays of the tape", tape, kept);
  if (arrays.size() != 3)
    throw Error(Fault::kValue, spec.op,
                "a tape must hold 3 arrays, got " + std::to_string(arrays.size()));
  call.tape = {arrays[0], arrays[1], arrays[2]};
  call.dy = view_of(spec.op, "dy", dy);
  states_of(spec, "dstate", dstate, call.dfinal, kept);
  const py::object dx = make_result(spec, p.sequence(spec.inputs), &call.dx);
  const py::object dinitial = make_states(spec, p, call.dinitial);
  const std::vector<Parameter> parameters = parameters_of(spec);
  call.dparameters.resize(parameters.size());
  py::tuple grads(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i)
    grads[i] = make_result(spec, parameters[i].shape, &call.dparameters[i]);
  run_engine(spec, 2 * work(spec, p.T * p.B), [&] { backward(w, call); });
  return py::make_tuple(dx, dinitial, grads);
}

py::dict plan_dict(const Usage& usage) {
  py::dict d;
  d["regime"] = usage.plan.regime;
  d["threads"] = usage.plan.threads();
  d["row_groups"] = usage.plan.row_groups;
  d["unit_members"] = usage.plan.unit_members;
  d["steppers"] = usage.plan.steppers;
  d["chunk_steps"] = usage.plan.chunk;
  d["workspace_bytes"] = usage.workspace;
  d["model_microseconds"] = usage.plan.microseconds;
  return d;
}

py::dict explain(const Weights& w, int64_t T, int64_t B, int64_t recompute) {
  const Spec& spec = w.spec();
  const KernelEntry& k = w.kernel();
  check_sizes(spec, T, B);
  Problem p;
  p.T = T, p.B = B, p.recompute = recompute;
  const TapeShapes tape = tape_shapes(spec, p);
  int64_t tape_bytes = 0;
  for (const Shape* shape : {&tape.inner, &tape.states, &tape.saved}) {
    int64_t bytes = spec.element_bytes;
    for (int64_t n : *shape) bytes *= n;
    tape_bytes += bytes;
  }
  py::dict d, tile;
  d["cell"] = spec.op;
  d["dtype"] = spec.element_bytes == 4 ? "float32" : "float64";
  d["level"] = k.level;
  tile["lanes"] = k.lanes;
  tile["rows"] = k.tile_rows;
  tile["panel_units"] = k.panel_units;
  d["tile"] = tile;
  d["forward"] = plan_dict(forward_usage(w, p, false));
  d["forward_with_tape"] = plan_dict(forward_usage(w, p, true));
  d["backward"] = plan_dict(backward_usage(w, p));
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
    all.append(d);
  }
  return all;
}

PyObject* exception_of(Fault fault) {
  switch (fault) {
    case Fault::kValue: return PyExc_ValueError;
    case Fault::kType: return PyExc_TypeError;
    case Fault::kNotImplemented: return PyExc_NotImplementedError;
    case Fault::kMemory: return PyExc_MemoryError;
    case Fault::kRuntime: break;
  }
  return PyExc_RuntimeError;
}

}  // namespace

PYBIND11_MODULE(_cpu, m, py::mod_gil_not_used()) {
  m.doc() = "The CPU engine of fastrnn.";
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      PyErr_SetString(exception_of(e.fault()), e.what());
    }
  });
  // A child of fork() must know that it is one, whenever the first call comes.
  available_threads();

  py::class_<Weights>(m, "Weights", py::module_local())
      .def(py::init<const std::string&, int, int64_t, int64_t, int64_t, int64_t, bool>(),
           py::arg("cell"), py::arg("element_bytes"), py::arg("layers"), py::arg("directions"),
           py::arg("inputs"), py::arg("units"), py::arg("bias"))
      .def("pack", &pack, py::arg("parameters"), py::arg("backward"))
      .def("output_shape", &output_shape, py::arg("x"), py::arg("batch_first"))
      .def("infer", &run_infer, py::arg("x"), py::arg("state"), py::arg("lengths"),
           py::arg("resets"), py::arg("masks"), py::arg("batch_first"), py::arg("out"))
      .def("forward", &run_forward, py::arg("x"), py::arg("state"), py::arg("lengths"),
           py::arg("resets"), py::arg("masks"), py::arg("batch_first"), py::arg("recompute"),
           py::arg("out"))
      .def("backward", &run_backward, py::arg("x"), py::arg("state"), py::arg("lengths"),
           py::arg("resets"), py::arg("masks"), py::arg("batch_first"), py::arg("y"),
           py::arg("tape"), py::arg("recompute"), py::arg("dy"), py::arg("dstate"))
      .def("explain", &explain, py::arg("T"), py::arg("B"), py::arg("recompute"))
      .def_property_readonly("parameters", [](const Weights& w) {
        py::list all;
        for (const Parameter& p : parameters_of(w.spec()))
          all.append(py::make_tuple(p.name, tuple_of(p.shape)));
        return all;
      });

  m.def("cells", &cells);
  m.def("built_levels", &built_levels);
  m.def("usable_levels", &usable_levels);
  m.def("level", &level_in_use);
  m.def("use_level", &use_level, py::arg("level"));
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &get_num_threads);
  m.def("team", &team_backend);
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
