// fastrnn._cuda: the recurrence of one layer on a GPU, and every check of a call. Arguments are
// positional; arrays are taken by pointer. The driver in python/fastrnn/cuda does the rest.
#include <pybind11/stl.h>

#include <algorithm>

#include "../core/validate.h"
#include "../cuda/engine.h"
#include "array.h"
#include "common.h"
#include "device_array.h"
#include "interpreter.h"

#if defined(FASTRNN_EMULATION)
#include "emulation_module.h"
#endif

namespace fastrnn {

namespace {

using gpu::Call;
using gpu::Plan;
using gpu::Stack;

// For arrays that the driver made: a tuple of them, or for states an empty one where there are
// none.
std::vector<View> own_views(const Spec& spec, const char* name, const py::tuple& arrays) {
  std::vector<View> views;
  for (const py::handle array : arrays) views.push_back(device_view(spec.op, name, array));
  return views;
}
void own_states(const Spec& spec, const char* name, const py::tuple& arrays,
                View (&views)[kMaxStates]) {
  const std::vector<View> given = own_views(spec, name, arrays);
  std::copy_n(given.begin(), std::min<size_t>(given.size(), kMaxStates), views);
}

// A call's arrays, as they came, and what was found of them.
struct Checked : Call {
  CallInputs inputs;
};

// Checks the parameters of a stack; tells of each whether kernels can read it as it is, in C order.
std::vector<bool> check_taken(const Stack& stack, const py::tuple& arrays) {
  const Spec& spec = stack.spec;
  const std::vector<Parameter> wanted = parameters_of(spec);
  std::vector<View> views;
  for (size_t i = 0; i < arrays.size(); ++i)
    views.push_back(device_view(spec.op, i < wanted.size() ? wanted[i].name.c_str() : "a parameter",
                                arrays[i]));
  check_parameters(spec, views);
  std::vector<bool> plain;
  for (const View& view : views) plain.push_back(is_contiguous(view));
  return plain;
}

// All that both directions are given; the parameters have been taken. Everything must be on x's
// device, but for lengths, which may be NumPy's: those are read here, and `place_lengths` says
// where the kernels find them.
Checked check(const Stack& stack, py::handle x, py::handle state, py::handle lengths,
              py::handle resets, py::handle masks, bool batch_first, int64_t recompute,
              const py::tuple& parameters, py::handle out) {
  const Spec& spec = stack.spec;
  const OnGpu source{spec};
  Checked checked;
  Kept kept;
  CallInputs& in = checked.inputs;
  const bool on_host = py::isinstance<py::array>(lengths);
  inputs_of(source, in, x, state, on_host ? py::handle(Py_None) : lengths, resets, masks,
            batch_first, recompute, kept);
  checked.lengths = in.lengths, checked.resets = in.resets;
  checked.problem = check_inputs(spec, in);
  if (on_host) {
    std::vector<int64_t> values(static_cast<size_t>(checked.problem.B));
    read_lengths(spec, checked.problem, view_of(Caller{spec}, "lengths", lengths), values.data());
  } else {
    check_lengths(spec, checked.problem, in.lengths);
  }
  const std::vector<View> weights = own_views(spec, "a parameter", parameters);
  std::vector<Named> all = named_inputs(spec, in);
  const std::vector<Parameter> names = parameters_of(spec);
  for (size_t i = 0; i < names.size(); ++i) all.push_back({names[i].name, &weights[i]});
  ForwardCall outputs;
  outputs.y = device_view(spec.op, "out", out);
  if (outputs.y.given) {
    static_cast<CallInputs&>(outputs) = in;
    check_forward(spec, checked.problem, outputs);
    all.push_back({"out", &outputs.y});
  }
  checked.device = check_device(spec, all);
  gpu::raise_reports(spec.op, checked.device);
  return checked;
}

void place_lengths(Checked& checked, const Stack& stack, py::handle lengths) {
  checked.lengths = device_view(stack.spec.op, "lengths", lengths);
  check_lengths(stack.spec, checked.problem, checked.lengths);
  check_device(stack.spec, {{"x", &checked.inputs.x}, {"lengths", &checked.lengths}});
}

void check_gradients(const Stack& stack, const Checked& checked, py::handle y, py::handle tape,
                     py::handle dy, py::handle dstate) {
  const Spec& spec = stack.spec;
  const OnGpu source{spec};
  Kept kept;
  BackwardCall call;
  static_cast<CallInputs&>(call) = checked.inputs;
  call.y = view_of(source, "y of the tape", y);
  call.tape = tape_of(source, tape, kept);
  call.dy = view_of(source, "dy", dy);
  states_of(source, "dstate", dstate, call.dfinal, kept);
  for (View& view : call.dinitial) view.fresh = true;
  check_backward(spec, checked.problem, call);
  check_device(spec, {{"x", &call.x},
                      {"y of the tape", &call.y},
                      {"tape inner", &call.tape.inner},
                      {"tape states", &call.tape.states},
                      {"tape saved", &call.tape.saved},
                      {"dy", &call.dy},
                      {"dhn", &call.dfinal[0]},
                      {"dcn", &call.dfinal[1]}});
}

// A pass that waits to be launched: at once, or step by step.
template <class P> struct Run {
  const Stack& stack;
  Plan plan;
  P pass;
  int device;
  void* stream;

  void run(py::handle meeting) const {
    const gpu::OnDevice here(stack.spec.op, device);
    const View memory = device_view(stack.spec.op, "memory to meet in", meeting);
    int64_t bytes = memory.itemsize;
    for (int64_t n : shape_of(memory)) bytes *= n;
    if (bytes < gpu::meeting_bytes(plan))
      throw Error(Fault::kRuntime, stack.spec.op, "memory to meet in must be enough, got less");
    gpu::run(stack, plan, pass, memory.data, stream);
  }
  void step(int64_t s, py::handle product) const {
    const gpu::OnDevice here(stack.spec.op, device);
    gpu::run_step(stack, plan, pass, s, device_view(stack.spec.op, "product", product), stream);
  }
};

template <class Arrays> void fill_common(const Spec& spec, Arrays& a, int64_t layer, int64_t begin,
                                         int64_t end, const py::tuple& parameters, py::handle h,
                                         const py::tuple& initial, py::handle states,
                                         py::handle saved, int64_t slot, py::handle entering,
                                         int64_t entering_place) {
  a.layer = layer, a.begin = begin, a.end = end;
  a.parameters = own_views(spec, "a parameter", parameters);
  a.h = device_view(spec.op, "h", h);
  own_states(spec, "state", initial, a.initial);
  a.states = device_view(spec.op, "states", states);
  a.saved = device_view(spec.op, "saved", saved);
  a.slot = slot;
  a.entering = device_view(spec.op, "entering states", entering);
  a.entering_place = entering_place;
}

void* pointer(uintptr_t stream) { return reinterpret_cast<void*>(stream); }

Run<gpu::ForwardPass> forward(const Stack& stack, const Checked& call, const Plan& plan,
                              uintptr_t stream, int64_t layer, int64_t begin, int64_t end,
                              const py::tuple& parameters, py::handle h, const py::tuple& initial,
                              py::handle states, py::handle saved, int64_t slot,
                              py::handle entering, int64_t entering_place, const py::tuple& gates,
                              const py::tuple& final, int64_t every, bool remake,
                              const py::tuple& carry) {
  const Spec& spec = stack.spec;
  gpu::ForwardArrays a{};
  fill_common(spec, a, layer, begin, end, parameters, h, initial, states, saved, slot, entering,
              entering_place);
  a.gates = own_views(spec, "gates", gates);
  own_states(spec, "final state", final, a.final);
  own_states(spec, "carry", carry, a.carry);
  a.every = every;
  a.remake = remake;
  return {stack, plan, gpu::forward_pass(stack, call, a), call.device, pointer(stream)};
}

Run<gpu::BackwardPass> backward(const Stack& stack, const Checked& call, const Plan& plan,
                                uintptr_t stream, int64_t layer, int64_t begin, int64_t end,
                                const py::tuple& parameters, py::handle h, const py::tuple& initial,
                                py::handle states, py::handle saved, int64_t slot,
                                py::handle entering, int64_t entering_place, py::handle dy,
                                const py::tuple& dgates, py::handle dstate, py::handle dentry,
                                py::handle dproduct) {
  const Spec& spec = stack.spec;
  gpu::BackwardArrays a{};
  fill_common(spec, a, layer, begin, end, parameters, h, initial, states, saved, slot, entering,
              entering_place);
  a.dy = device_view(spec.op, "dy", dy);
  a.dgates = own_views(spec, "dgates", dgates);
  a.dstate = device_view(spec.op, "dstate", dstate);
  a.dentry = device_view(spec.op, "dentry", dentry);
  a.dproduct = device_view(spec.op, "dproduct", dproduct);
  return {stack, plan, gpu::backward_pass(stack, call, a), call.device, pointer(stream)};
}

template <class P> void bind_run(py::module_& m, const char* name) {
  py::class_<Run<P>>(m, name, py::module_local())
      .def("run", &Run<P>::run, py::arg("meeting"))
      .def("step", &Run<P>::step, py::arg("s"), py::arg("product"));
}

gpu::Mode mode_of(const std::string& name) {
  for (const gpu::Mode mode : {gpu::Mode::kBest, gpu::Mode::kGrid, gpu::Mode::kStepwise})
    if (name == gpu::name_of(mode)) return mode;
  throw Error(Fault::kValue, "cuda", "mode must be best, grid or stepwise, got " + name);
}

py::dict device_facts(int index) {
  const gpu::Device& d = gpu::device(index);
  py::dict facts;
  facts["name"] = d.name;
  facts["capability"] = py::make_tuple(d.major, d.minor);
  facts["processors"] = d.processors;
  facts["shared_per_block"] = d.shared_per_block;
  facts["cooperative"] = d.cooperative;
  facts["gigahertz"] = d.gigahertz;
  return facts;
}

}  // namespace

FASTRNN_MODULE(FASTRNN_CUDA_MODULE, m) {
  m.doc() = "The CUDA engine of fastrnn.";
  translate_errors(m);

  py::class_<Stack>(m, "Stack", py::module_local())
      .def(py::init(&gpu::make_stack), py::arg("cell"), py::arg("dtype"), py::arg("layers"),
           py::arg("directions"), py::arg("inputs"), py::arg("units"), py::arg("bias"))
      .def_property_readonly("parameters",
                             [](const Stack& stack) {
                               py::list all;
                               for (const Parameter& p : parameters_of(stack.spec))
                                 all.append(py::make_tuple(p.name, tuple_of(p.shape)));
                               return all;
                             })
      .def_property_readonly("gates", [](const Stack& s) { return s.kernels->gates; })
      .def_property_readonly("states", [](const Stack& s) { return s.kernels->states; })
      .def_property_readonly("saved", [](const Stack& s) { return s.kernels->saved; })
      .def_property_readonly("planes", [](const Stack& s) { return s.kernels->planes; })
      .def_property_readonly("split", [](const Stack& s) { return s.kernels->split; })
      .def("check_taken", &check_taken, py::arg("parameters"))
      .def("check", &check, py::arg("x"), py::arg("state"), py::arg("lengths"), py::arg("resets"),
           py::arg("masks"), py::arg("batch_first"), py::arg("recompute"), py::arg("parameters"),
           py::arg("out"))
      .def("check_gradients", &check_gradients, py::arg("call"), py::arg("y"), py::arg("tape"),
           py::arg("dy"), py::arg("dstate"))
      .def(
          "plan",
          [](const Stack& s, const Checked& c, bool back) { return gpu::plan_of(s, c, back); },
          py::arg("call"), py::arg("backward"))
      .def(
          "plan_sizes",
          [](const Stack& s, int64_t T, int64_t B, int device, bool back) {
            check_sizes(s.spec, T, B);
            return gpu::plan_of(s, T, B, device, back);
          },
          py::arg("T"), py::arg("B"), py::arg("device"), py::arg("backward"))
      .def("forward", &forward, py::keep_alive<0, 1>())
      .def("backward", &backward, py::keep_alive<0, 1>());

  py::class_<Checked>(m, "Call", py::module_local())
      .def_property_readonly("T", [](const Checked& c) { return c.problem.T; })
      .def_property_readonly("B", [](const Checked& c) { return c.problem.B; })
      .def_property_readonly("device", [](const Checked& c) { return c.device; })
      .def("place_lengths", &place_lengths, py::arg("stack"), py::arg("lengths"))
      .def("y_shape",
           [](const Checked& c, const Stack& s) { return tuple_of(y_shape(s.spec, c.problem)); })
      .def("state_shape", [](const Checked& c,
                             const Stack& s) { return tuple_of(state_shape(s.spec, c.problem)); })
      .def("tape_shapes", [](const Checked& c, const Stack& s) {
        const TapeShapes shapes = tape_shapes(s.spec, c.problem);
        return py::make_tuple(tuple_of(shapes.inner), tuple_of(shapes.states),
                              tuple_of(shapes.saved));
      });

  py::class_<Plan>(m, "Plan", py::module_local())
      .def_property_readonly("mode", [](const Plan& p) { return gpu::name_of(p.mode); })
      .def_property_readonly("meeting_bytes", &gpu::meeting_bytes)
      .def_readonly("blocks", &Plan::blocks)
      .def_readonly("threads", &Plan::threads)
      .def_readonly("shared_bytes", &Plan::shared)
      .def_readonly("model_microseconds", &Plan::microseconds)
      .def_property_readonly("replicas", [](const Plan& p) { return p.grid.replicas; })
      .def_property_readonly("units", [](const Plan& p) { return p.grid.units; });
  bind_run<gpu::ForwardPass>(m, "ForwardRun");
  bind_run<gpu::BackwardPass>(m, "BackwardRun");

  // Whether an array is in C order without gaps.
  m.def(
      "is_plain",
      [](py::handle array) { return is_contiguous(device_view("cuda", "an array", array)); },
      py::arg("array"));
  // dtype, I, H and whether there are biases, of parameters.
  m.def(
      "sizes",
      [](const std::string& cell, int64_t layers, int64_t directions, const py::tuple& parameters) {
        Spec named{};
        named.op = cell;
        const Spec s =
            sizes_of(cell, layers, directions, own_views(named, "a parameter", parameters));
        return py::make_tuple(dtype_name(s.kind, s.element_bytes), s.inputs, s.units, s.bias);
      },
      py::arg("cell"), py::arg("layers"), py::arg("directions"), py::arg("parameters"));
  m.def("device_count", &gpu::device_count);
  m.def("why_none", &gpu::why_none);
  m.def("device", &device_facts, py::arg("index"));
  m.def("mode", [] { return gpu::name_of(gpu::mode_in_use()); });
  m.def("use_mode", [](const std::string& name) { gpu::use_mode(mode_of(name)); }, py::arg("mode"));
  m.def(
      "check_reports",
      [](int device, uintptr_t stream) {
        const OthersGoOn others;  // what the GPU waits for may be a function in Python
        gpu::synchronize_and_raise("cuda", device, pointer(stream));
      },
      py::arg("device"), py::arg("stream"));
#if defined(FASTRNN_EMULATION)
  emulation::bind(m);
#endif
}

}  // namespace fastrnn
