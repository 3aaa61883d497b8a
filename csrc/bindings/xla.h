// The engine's handler for XLA (csrc/xla), as fastrnn.jax registers it, and what it says of calls
// beforehand.
#pragma once

#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "../core/call.h"
#include "../xla/cpu.h"
#include "../xla/frame.h"
#include "common.h"

namespace fastrnn {

// Refuses a call as the engine would, before its arrays have values: of each the shape, and NumPy's
// kind and bytes of an element.
using Promised = std::tuple<std::vector<int64_t>, char, int64_t>;
inline void check_promised(const std::string& cell, const std::vector<int64_t>& options,
                           const std::vector<Promised>& inputs) {
  xla::Arrays arrays;
  for (const auto& [shape, kind, itemsize] : inputs) {
    View view =
        fresh_view(nullptr, {kind, itemsize}, Shape(shape.data(), shape.data() + shape.size()));
    view.rank = static_cast<int>(shape.size());
    arrays.inputs.push_back(view);
  }
  xla::check_cpu({cell, options.data(), static_cast<int64_t>(options.size())}, arrays);
}

inline void bind_xla(py::module_& m) {
  py::list options;
  for (const char* name : xla::kOptionNames) options.append(name);
  py::dict roles;  // the bits of the option "given"
  for (const RoleRule& rule : kRoles) roles[xla::key_of(rule)] = static_cast<int>(rule.role);
  m.attr("xla_options") = py::tuple(options);
  m.attr("xla_roles") = roles;
  m.attr("xla_handler") = py::capsule(reinterpret_cast<void*>(&xla::call_cpu));
  m.def("xla_set_version", &xla::set_version, py::arg("major"), py::arg("minor"));
  m.def("xla_check", &check_promised, py::arg("cell"), py::arg("options"), py::arg("inputs"));
}

}  // namespace fastrnn
