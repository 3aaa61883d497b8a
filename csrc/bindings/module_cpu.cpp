// fastrnn._cpu: the engine as Python sees it. Arguments are positional and arrays are taken as they
// are; the Python side allocates every output.
#include "../core/cpuid.h"
#include "../core/dispatch.h"
#include "../core/validate.h"
#include "../cpu/engine.h"
#include "../cpu/team.h"
#include "array.h"

namespace fastrnn {

namespace {

py::tuple tuple_of(const Shape& shape) {
  py::tuple result(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) result[i] = shape[i];
  return result;
}

void pack(Weights& w, py::tuple parameters, bool backward) {
  if (w.packed(backward)) return;
  const std::vector<View> views = views_of(w.spec().op, "a parameter", parameters);
  py::gil_scoped_release release;
  w.pack(views, backward);
}

// Shapes of y, of each state and of the tape's three arrays.
py::tuple shapes(const Weights& w, py::handle x, bool batch_first) {
  const Spec& spec = w.spec();
  const Problem p = check_input(spec, view_of(spec.op, "x", x), batch_first);
  const TapeShapes tape = tape_shapes(spec, p);
  return py::make_tuple(
      tuple_of(p.sequence(spec.directions * spec.units)), tuple_of(state_shape(spec, p)),
      py::make_tuple(tuple_of(tape.inner), tuple_of(tape.states), tuple_of(tape.saved)));
}

void tape_of(const Spec& spec, py::handle object, TapeViews* views) {
  const auto arrays = py::reinterpret_borrow<py::tuple>(object);
  if (arrays.size() != 3)
    throw Error(Fault::kValue, spec.op,
                "a tape must hold 3 arrays, got " + std::to_string(arrays.size()));
  views->inner = view_of(spec.op, "tape inner", arrays[0]);
  views->states = view_of(spec.op, "tape states", arrays[1]);
  views->saved = view_of(spec.op, "tape saved", arrays[2]);
}

template <class Call> void inputs_of(const Spec& spec, Call& call, py::handle x, py::handle initial,
                                     py::handle lengths, py::handle resets, py::tuple masks,
                                     bool batch_first) {
  call.x = view_of(spec.op, "x", x);
  states_of(spec, "the initial state", initial, call.initial);
  call.lengths = view_of(spec.op, "lengths", lengths);
  call.resets = view_of(spec.op, "resets", resets);
  call.masks = views_of(spec.op, "a dropout mask", masks);
  call.batch_first = batch_first;
}

void require_packed(const Weights& w, bool backward) {
  if (!w.packed(backward))
    throw Error(Fault::kRuntime, w.spec().op, "weights must be packed before use, got none");
}

void run_forward(const Weights& w, py::handle x, py::handle initial, py::handle lengths,
                 py::handle resets, py::tuple masks, bool batch_first, py::handle y,
                 py::tuple final, py::handle tape) {
  const Spec& spec = w.spec();
  require_packed(w, false);
  ForwardCall call;
  inputs_of(spec, call, x, initial, lengths, resets, masks, batch_first);
  call.y = view_of(spec.op, "y", y);
  states_of(spec, "the final state", final, call.final);
  call.keep_tape = !tape.is_none();
  if (call.keep_tape) tape_of(spec, tape, &call.tape);
  py::gil_scoped_release release;
  forward(w, call);
}

void run_backward(const Weights& w, py::handle x, py::handle initial, py::handle lengths,
                  py::handle resets, py::tuple masks, bool batch_first, py::handle y,
                  py::tuple tape, py::handle dy, py::handle dfinal, py::handle dx,
                  py::tuple dinitial, py::tuple dparameters) {
  const Spec& spec = w.spec();
  require_packed(w, true);
  BackwardCall call;
  inputs_of(spec, call, x, initial, lengths, resets, masks, batch_first);
  call.y = view_of(spec.op, "y", y);
  tape_of(spec, tape, &call.tape);
  call.dy = view_of(spec.op, "dy", dy);
  states_of(spec, "the gradient of the final state", dfinal, call.dfinal);
  call.dx = view_of(spec.op, "dx", dx);
  states_of(spec, "the gradient of the initial state", dinitial, call.dinitial);
  call.dparameters = views_of(spec.op, "a gradient", dparameters);
  py::gil_scoped_release release;
  backward(w, call);
}

py::dict plan_dict(const Usage& usage) {
  py::dict d;
  d["regime"] = usage.plan.regime;
  d["threads"] = usage.plan.threads();
  d["row_groups"] = usage.plan.row_groups;
  d["unit_members"] = usage.plan.unit_members;
  d["chunk_steps"] = usage.plan.chunk;
  d["workspace_bytes"] = usage.workspace;
  d["model_microseconds"] = usage.plan.microseconds;
  return d;
}

py::dict explain(const Weights& w, int64_t T, int64_t B) {
  const Spec& spec = w.spec();
  const KernelEntry& k = w.kernel();
  check_sizes(spec, T, B);
  Problem p;
  p.T = T, p.B = B;
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
  d["forward"] = plan_dict(forward_usage(w, p, false, false));
  d["forward_with_tape"] = plan_dict(forward_usage(w, p, true, false));
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
    d["saved"] = k.saved;
    d["split"] = k.split;
    all.append(d);
  }
  return all;
}

void set_threads(int64_t n) {
  if (n < 1 || n > 4096)
    throw Error(Fault::kValue, "set_num_threads",
                "n must be within 1..4096, got " + std::to_string(n));
  set_num_threads(static_cast<int>(n));
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
      .def("shapes", &shapes, py::arg("x"), py::arg("batch_first"))
      .def("explain", &explain, py::arg("T"), py::arg("B"))
      .def_property_readonly("parameters",
                             [](const Weights& w) {
                               py::list all;
                               for (const Parameter& p : parameters_of(w.spec()))
                                 all.append(py::make_tuple(p.name, tuple_of(p.shape)));
                               return all;
                             })
      .def_property_readonly("level", [](const Weights& w) { return w.kernel().level; })
      .def_property_readonly("states", [](const Weights& w) { return w.spec().states; });

  m.def("forward", &run_forward, py::arg("weights"), py::arg("x"), py::arg("initial"),
        py::arg("lengths"), py::arg("resets"), py::arg("masks"), py::arg("batch_first"),
        py::arg("y"), py::arg("final"), py::arg("tape"));
  m.def("backward", &run_backward, py::arg("weights"), py::arg("x"), py::arg("initial"),
        py::arg("lengths"), py::arg("resets"), py::arg("masks"), py::arg("batch_first"),
        py::arg("y"), py::arg("tape"), py::arg("dy"), py::arg("dfinal"), py::arg("dx"),
        py::arg("dinitial"), py::arg("dparameters"));
  m.def("cells", &cells);
  m.def("built_levels", &built_levels);
  m.def("usable_levels", &usable_levels);
  m.def("level", &level_in_use);
  m.def("use_level", &use_level, py::arg("level"));
  m.def("set_num_threads", &set_threads, py::arg("n"));
  m.def("get_num_threads", &get_num_threads);
  m.def("team", &team_backend);
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
