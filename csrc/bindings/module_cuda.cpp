// fastrnn._cuda: the engine of GPUs as Python sees it. A call is one tuple (fields.h); arrays are
// taken by pointer; memory and products are asked of their library (python_library.h).
#include <pybind11/stl.h>

#include "interpreter.h"
#include "run_cuda.h"
#include "xla_cuda.h"

#if defined(FASTRNN_EMULATION)
#include "emulation_module.h"
#endif

namespace fastrnn {

namespace {

using gpu::Plan;
using gpu::Stack;

Spec sizes(const std::string& cell, int64_t layers, int64_t directions, int64_t inputs,
           int64_t units, bool bias, int64_t projection) {
  Spec spec{};
  spec.op = cell;
  spec.layers = layers, spec.directions = directions;
  spec.inputs = inputs, spec.units = units, spec.bias = bias, spec.projection = projection;
  return spec;
}

Stack new_stack(const std::string& cell, const std::string& dtype, int64_t layers,
                int64_t directions, int64_t inputs, int64_t units, bool bias, int64_t projection) {
  return gpu::make_stack(dtype, sizes(cell, layers, directions, inputs, units, bias, projection));
}

// dtype, I, H, whether there are biases, and P of parameters.
py::tuple sizes_of_parameters(const std::string& cell, int64_t layers, int64_t directions,
                              const py::tuple& parameters) {
  std::vector<View> views;
  for (const py::handle array : parameters)
    views.push_back(device_view(cell, "a parameter", array));
  const Spec s = sizes_of(cell, layers, directions, views);
  return py::make_tuple(dtype_name(s.kind, s.element_bytes), s.inputs, s.units, s.bias,
                        s.projection);
}

// Checks the parameters of a stack; tells of each whether kernels can read it as it is, in C order.
std::vector<bool> check_taken(const Stack& stack, const py::tuple& arrays) {
  const Spec& spec = stack.spec;
  const std::vector<Parameter> wanted = parameters_of(spec);
  std::vector<View> views;
  for (size_t i = 0; i < arrays.size(); ++i)
    views.push_back(device_view(spec.op, i < wanted.size() ? wanted[i].name.c_str() : "a parameter",
                                arrays[i]));
  check_parameters(spec, views);
  std::vector<bool> contiguous;
  for (const View& view : views)
    contiguous.push_back(has_contiguous_rows(view) && is_contiguous(view));
  return contiguous;
}

py::tuple output_shape(const Stack& stack, py::handle x, bool batch_first) {
  const Problem p = check_input(stack.spec, device_view(stack.spec.op, "x", x), batch_first);
  return tuple_of(role_shape(Role::kY, stack.spec, p));
}

py::dict plan_of(const Stack& stack, int64_t T, int64_t B, int device, bool backward,
                 bool can_be_recorded) {
  check_sizes(stack.spec, T, B);
  const Plan plan = gpu::plan_of(stack, T, B, device, backward, can_be_recorded);
  py::dict d;
  d["mode"] = plan.mode->name();
  d["blocks"] = plan.blocks;
  d["threads"] = plan.threads;
  d["units"] = plan.grid.units;
  d["replicas"] = plan.grid.replicas;
  d["tile_rows"] = plan.grid.tile_rows;
  d["tensor_cores"] = plan.grid.tensor != 0;
  // Values of each row of weights that are read anew at each step.
  d["streamed"] = plan.grid.k - plan.grid.resident;
  d["shared_bytes"] = plan.shared;
  d["model_microseconds"] = plan.microseconds;
  d["instead_of"] = plan.instead_of;
  return d;
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

const char* mode_name() {
  const gpu::Mode* mode = gpu::mode_in_use();
  return mode ? mode->name() : "best";
}

void raise_errors(int device, uintptr_t stream) {
  const OthersGoOn others;  // what the GPU waits for may be a function in Python
  gpu::synchronize_and_raise("cuda", device, reinterpret_cast<void*>(stream));
}

}  // namespace

FASTRNN_MODULE(FASTRNN_CUDA_MODULE, m) {
  m.doc() = "The CUDA engine of fastrnn.";
  m.attr("call_fields") = py::tuple(py::cast(field_places().names));
  m.attr("call_kinds") = kinds();
  translate_errors(m);
  bind_xla(m);
  py::class_<Stack>(m, "Stack", py::module_local())
      .def(py::init(&new_stack), py::arg("cell"), py::arg("dtype"), py::arg("layers"),
           py::arg("directions"), py::arg("inputs"), py::arg("units"), py::arg("bias"),
           py::arg("projection") = 0)
      .def_property_readonly("parameters",
                             [](const Stack& s) { return list_of(parameters_of(s.spec)); })
      .def("check_taken", &check_taken, py::arg("parameters"))
      .def("output_shape", &output_shape, py::arg("x"), py::arg("batch_first"))
      .def("plan", &plan_of, py::arg("T"), py::arg("B"), py::arg("device"), py::arg("backward"),
           py::arg("can_be_recorded") = true)
      .def("run", &run_on_gpu, py::arg("parameters"), py::arg("call"), py::arg("library"),
           py::arg("stream"), py::arg("can_be_recorded"));
  m.def("sizes", &sizes_of_parameters, py::arg("cell"), py::arg("layers"), py::arg("directions"),
        py::arg("parameters"));
  m.def("device_count", &gpu::device_count);
  m.def("why_none", &gpu::why_none);
  m.def("device", &device_facts, py::arg("index"));
  m.def("mode", &mode_name);
  m.def("use_mode", &gpu::use_mode, py::arg("mode"));
  m.def("tf32", &gpu::tf32_in_use);
  m.def("use_tf32", &gpu::use_tf32, py::arg("use"));
  m.def("raise_errors", &raise_errors, py::arg("device"), py::arg("stream"));
#if defined(FASTRNN_EMULATION)
  emulation::bind(m);
#endif
}

}  // namespace fastrnn
