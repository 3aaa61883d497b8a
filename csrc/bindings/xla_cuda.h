// The CUDA engine's handler for XLA (csrc/xla). XLA's buffers and its stream go to a function of
// Python's (python/fastrnn/jax/_gpu.py), since the engine's memory and products are Python's too:
// python_library.h.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../core/dtype.h"
#include "../cuda/kernels.h"
#include "../xla/frame.h"
#include "common.h"

namespace fastrnn {

// Lives as long as the process: XLA may call until its end.
inline py::object& xla_function() {
  static auto* function = new py::object;
  return *function;
}

// Of each array its role, by the key of the engine's table, the address, the shape and the dtype.
inline py::list describe(const xla::Request& request, const RoleList& roles, int64_t states,
                         const std::vector<View>& views) {
  py::list all;
  size_t next = 0;
  for (const xla::Slot& slot : xla::slots_of(request, roles, states, views.size())) {
    const View& view = views[next++];
    all.append(py::make_tuple(xla::key_of(*slot.rule), reinterpret_cast<uintptr_t>(view.data),
                              tuple_of(shape_of(view)), dtype_name(view.kind, view.itemsize)));
  }
  return all;
}

inline void call_python(const xla::CallFrame& frame) {
  const xla::Request request = xla::request_of(frame);
  const xla::Arrays arrays = xla::arrays_of(frame, 0);
#if defined(FASTRNN_EMULATION)
  void* const stream = nullptr;  // XLA has streams for GPUs alone
#else
  void* const stream = xla::stream_of(frame);
#endif
  const int64_t states = gpu::find_kernels(request.cell, gpu::Storage::kFloat, false).states;
  const py::gil_scoped_acquire interpreter;
  try {
    py::dict options;
    for (int i = 0; i < xla::kOptions; ++i) options[xla::kOptionNames[i]] = request.options[i];
    xla_function()(request.cell, options,
                   describe(request, inputs_of(request.kind()), states, arrays.inputs),
                   describe(request, outputs_of(request.kind()), states, arrays.results),
                   reinterpret_cast<uintptr_t>(stream));
  } catch (const py::error_already_set& e) {  // which may not outlive the lock
    throw std::runtime_error(py::str(e.value()).cast<std::string>());
  }
}

inline xla::Error* call_cuda(xla::CallFrame* frame) {
  if (xla::answers_query(frame) || frame->stage != xla::kExecute) return nullptr;
  return xla::report_errors(*frame, call_python);
}

inline void bind_xla(py::module_& m) {
  m.attr("xla_handler") = py::capsule(reinterpret_cast<void*>(&call_cuda));
  m.def("xla_set_version", &xla::set_version, py::arg("major"), py::arg("minor"));
  m.def(
      "xla_set_function", [](py::object function) { xla_function() = std::move(function); },
      py::arg("function"));
}

}  // namespace fastrnn
