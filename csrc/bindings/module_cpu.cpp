// fastrnn._cpu: the engine as Python sees it. A call is one tuple (fields.h); arrays are taken as
// they are, and results are allocated here, as arrays of the same library.
#include <pybind11/stl.h>

#include "../cpu/memory.h"
#include "explain.h"
#include "limits.h"
#include "run_cpu.h"
#include "shapes.h"
#include "xla.h"

namespace fastrnn {

namespace {

// The shape that y will have.
py::tuple output_shape(const PyWeights& w, py::handle x, bool batch_first) {
  const Problem p = check_input(w.spec(), view_of(w.caller(), "x", x), batch_first);
  return tuple_of(role_shape(Role::kY, w.spec(), p));
}

void bind_weights(py::module_& m) {
  py::class_<PyWeights>(m, "Weights", py::module_local())
      .def(py::init(&new_weights), py::arg("cell"), py::arg("dtype"), py::arg("layers"),
           py::arg("directions"), py::arg("inputs"), py::arg("units"), py::arg("bias"),
           py::arg("projection") = 0)
      .def("pack", &pack, py::arg("parameters"), py::arg("backward"))
      // Weights are packed copies from the start.
      .def("copy_parameters", [](const PyWeights&) {})
      .def("output_shape", &output_shape, py::arg("x"), py::arg("batch_first"))
      .def("run", &run_packed, py::arg("call"))
      .def("step", &step_packed, py::arg("x"), py::arg("state"), py::arg("threads") = 0)
      .def("explain", &explain, py::arg("T"), py::arg("B"), py::arg("recompute"))
      .def_property_readonly("parameters",
                             [](const PyWeights& w) { return list_of(parameters_of(w.spec())); });
  m.def("pack_new", &pack_new, py::arg("cell"), py::arg("layers"), py::arg("directions"),
        py::arg("parameters"), py::arg("forward"), py::arg("backward"), py::arg("threads") = 0);
  m.def("run_new", &run_new, py::arg("cell"), py::arg("layers"), py::arg("directions"),
        py::arg("parameters"), py::arg("call"));
  m.def("step_new", &step_new, py::arg("cell"), py::arg("parameters"), py::arg("x"),
        py::arg("state"), py::arg("threads") = 0);
}

}  // namespace

FASTRNN_MODULE(_cpu, m) {
  m.doc() = "The CPU engine of fastrnn.";
  m.attr("__version__") = FASTRNN_VERSION;
  m.attr("call_fields") = py::tuple(py::cast(field_places().names));
  m.attr("call_kinds") = kinds();
  translate_errors(m);
  // A child of fork() must know that it is one, whenever the first call comes.
  available_threads();
  // XLA's calls end when they end: whoever waits for them has no place for an exception.
  set_poll([] { return !xla::in_call() && signals_raise(); });
  bind_weights(m);
  bind_xla(m);

  m.def("result_shapes", &result_shapes, py::arg("cell"), py::arg("layers"), py::arg("directions"),
        py::arg("x"), py::arg("units"), py::arg("outputs"), py::arg("batch_first"),
        py::arg("recompute"));
  m.def("cells", &cells);
  m.def("built_levels", &built_levels);
  m.def("usable_levels", &usable_levels);
  m.def("level", &level_in_use);
  m.def("use_level", &use_level, py::arg("level"));
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &get_num_threads);
  m.def("team", &team_backend);
  m.def("available", &available_dict);
  m.def("processors", &processors_dict);
  m.def(
      "quota_processors", [](const std::string& root) { return quota_processors(root); },
      py::arg("root"));
  m.def("pretend_processors", &pretend_processors, py::arg("n"));
  m.def("release_memory", &release_memory);
  m.def("caches", &caches_dict);
  m.def("compiler", &compiler);
  m.def("limits", &limits_dict, py::arg("threads"), py::arg("l1"), py::arg("l2"), py::arg("l3"));
}

}  // namespace fastrnn
