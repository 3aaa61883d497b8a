// Arrays in a GPU's memory as Views: of any library that has DLPack's table of C calls, the CUDA
// array interface, or DLPack's method.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "../core/error.h"
#include "../core/problem.h"
#include "../cuda/device.h"
#include "common.h"
#include "dlpack.h"

namespace fastrnn {

namespace device_array {

// kType: no array at all; kValue, as for one on another GPU: an array elsewhere.
[[noreturn]] inline void refuse(Fault fault, const std::string& op, const char* name,
                                const std::string& got) {
  throw Error(fault, op, std::string(name) + " must be an array on a GPU, got " + got);
}

inline View view_of_tensor(const std::string& op, const char* name, const dlpack::Tensor& tensor) {
  if (!gpu::reaches(tensor.device, tensor.data))
    refuse(Fault::kValue, op, name, "one in host memory or on another kind of device");
  View view = dlpack::view_of_tensor(tensor);
  view.device = tensor.device_id;
  return view;
}

// A capsule of __dlpack__ owns a tensor; it frees it unless somebody renames the capsule.
inline View view_by_method(const std::string& op, const char* name, py::handle object) {
  // -1: no synchronisation, since everything happens on the caller's stream.
  const py::object capsule = object.attr("__dlpack__")(py::arg("stream") = -1);
  struct Managed {
    dlpack::Tensor tensor;
  };
  const auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!managed) throw py::error_already_set();
  return view_of_tensor(op, name, managed->tensor);
}

inline View view_by_interface(const std::string& op, const char* name, const py::dict& from) {
  View view;
  view.given = true;
  const auto type = from["typestr"].cast<std::string>();
  view.native = type[0] != '>';
  view.kind = type[1];
  view.itemsize = std::stoll(type.substr(2));
  if (view.kind == 'V' && view.itemsize == 2) view.kind = 'B';  // as ml_dtypes writes bfloat16
  const auto data = from["data"].cast<py::tuple>();
  view.data = reinterpret_cast<char*>(data[0].cast<uintptr_t>());
  view.writeable = !data[1].cast<bool>();
  const auto shape = from["shape"].cast<py::tuple>();
  view.rank = static_cast<int>(shape.size());
  bool any = true;
  int64_t stride = view.itemsize;
  for (int i = view.rank - 1; i >= 0; --i) {
    const auto n = shape[static_cast<size_t>(i)].cast<int64_t>();
    any &= n > 0;
    if (i < kMaxRank) view.shape[i] = n, view.strides[i] = stride;
    stride *= n;
  }
  if (from.contains("strides") && !from["strides"].is_none()) {
    const auto strides = from["strides"].cast<py::tuple>();
    for (int i = 0; i < view.rank && i < kMaxRank; ++i)
      view.strides[i] = strides[static_cast<size_t>(i)].cast<int64_t>();
  }
  view.device = any ? gpu::device_of(view.data) : gpu::current_device();
  if (view.device == kHost) refuse(Fault::kValue, op, name, "one in host memory");
  return view;
}

}  // namespace device_array

// None gives a View that is not given. The array must outlive the View.
inline View device_view(const std::string& op, const char* name, py::handle object) {
  if (object.is_none()) return {};
  if (const dlpack::Exchange* exchange = dlpack::exchange_of(object)) {
    dlpack::Tensor tensor;
    if (exchange->look(object.ptr(), &tensor) != 0)
      device_array::refuse(Fault::kType, op, name, "one that says: " + dlpack::python_error());
    return device_array::view_of_tensor(op, name, tensor);
  }
  if (py::hasattr(object, "__cuda_array_interface__"))
    return device_array::view_by_interface(op, name, object.attr("__cuda_array_interface__"));
  if (py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__")) {
    const auto where = object.attr("__dlpack_device__")().cast<py::tuple>();
    if (gpu::reaches(where[0].cast<int32_t>(), nullptr))
      return device_array::view_by_method(op, name, object);
  }
  device_array::refuse(Fault::kType, op, name, Py_TYPE(object.ptr())->tp_name);
}

}  // namespace fastrnn
