// NumPy arrays as Views: no conversion, no copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "../core/error.h"
#include "../core/kernel_table.h"
#include "../core/problem.h"

namespace fastrnn {

namespace py = pybind11;

// None gives a View that is not given. The array must outlive the View.
inline View view_of(const std::string& op, const char* name, py::handle object) {
  View view;
  if (object.is_none()) return view;
  if (!py::isinstance<py::array>(object))
    throw Error(
        Fault::kType, op,
        std::string(name) + " must be a NumPy array, got " + Py_TYPE(object.ptr())->tp_name);
  const auto array = py::reinterpret_borrow<py::array>(object);
  const py::dtype dtype = array.dtype();
  view.given = true;
  view.data = static_cast<char*>(const_cast<void*>(array.data()));
  view.itemsize = dtype.itemsize();
  view.kind = dtype.kind();
  const char order = dtype.byteorder();
  view.native = order == '=' || order == '|' ||
                order == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>');
  view.writeable = array.writeable();
  view.rank = static_cast<int>(array.ndim());
  for (int i = 0; i < view.rank && i < kMaxRank; ++i) {
    view.shape[i] = array.shape(i);
    view.strides[i] = array.strides(i);
  }
  return view;
}

inline std::vector<View> views_of(const std::string& op, const char* name, py::tuple objects) {
  std::vector<View> views;
  for (py::handle object : objects) views.push_back(view_of(op, name, object));
  return views;
}

// One array for each state, or None for no state at all.
inline void states_of(const Spec& spec, const char* name, py::handle objects,
                      View (&views)[kMaxStates]) {
  if (objects.is_none()) return;
  const auto arrays = py::reinterpret_borrow<py::tuple>(objects);
  if (static_cast<int64_t>(arrays.size()) != spec.states)
    throw Error(Fault::kValue, spec.op,
                std::string(name) + " must hold " + std::to_string(spec.states) +
                    " array(s), got " + std::to_string(arrays.size()));
  for (size_t k = 0; k < arrays.size(); ++k) views[k] = view_of(spec.op, name, arrays[k]);
}

}  // namespace fastrnn
