// DLPack's exchange of tensors by C calls: an array library's type has an attribute
// `__dlpack_c_exchange_api__` that holds a table of functions. So tensors come and go by pointer,
// in tens of nanoseconds, and nothing here knows whose they are. Layouts: dmlc.github.io/dlpack,
// version 1.
#pragma once

#include <pybind11/pybind11.h>
#include <stdint.h>

#include <memory>

#include "../core/error.h"
#include "../core/problem.h"
#include "../cpu/memory.h"

namespace fastrnn {

namespace py = pybind11;

namespace dlpack {

struct Version {
  uint32_t major, minor;
};
struct Type {
  uint8_t code, bits;
  uint16_t lanes;
};
enum Code : uint8_t { kInt, kUInt, kFloat, kBfloat = 4, kComplex, kBool };
constexpr int32_t kCpu = 1;

struct Tensor {
  void* data;
  int32_t device, device_id, rank;
  Type type;
  int64_t *shape, *strides;  // strides in elements
  uint64_t offset;           // bytes
};
struct Owned {
  Version version;
  void* context;
  void (*free)(Owned*);
  uint64_t flags;
  Tensor tensor;
};
struct Exchange {
  Version version;
  void* previous;
  int (*allocate)(Tensor*, Owned**, void*, void (*)(void*, const char*, const char*));
  int (*own)(void* object, Owned** out);
  int (*give)(Owned* tensor, void** object);  // these two: 0, or -1 with a Python error set
  int (*look)(void* object, Tensor* out);     // may be null
  int (*stream)(int32_t, int32_t, void**);
};

// The table of an object's type, or null.
inline const Exchange* exchange_of(py::handle object) {
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  PyObject* capsule = PyObject_GetAttr(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())), name);
  const void* table = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : nullptr;
  Py_XDECREF(capsule);  // the table itself is never freed
  if (!table) {
    PyErr_Clear();
    return nullptr;
  }
  const auto* exchange = static_cast<const Exchange*>(table);
  return exchange->version.major == 1 && exchange->look ? exchange : nullptr;
}

// The first line of what a Python error says, which is cleared.
inline std::string python_error() {
  const std::string text = py::error_already_set().what();
  return text.substr(0, text.find('\n'));
}

inline char kind_of(Type type) {
  switch (type.code) {
    case kInt: return 'i';
    case kUInt: return 'u';
    case kFloat: return 'f';
    case kComplex: return 'c';
    case kBool: return 'b';
    case kBfloat: return 'B';
    default: return '?';
  }
}

inline bool is_empty(const Tensor& tensor) {
  for (int i = 0; i < tensor.rank; ++i)
    if (tensor.shape[i] == 0) return true;
  return false;
}

// The same tensor as a View, wherever it lies.
inline View view_of_tensor(const Tensor& tensor) {
  View view;
  view.given = view.writeable = true;
  view.data = static_cast<char*>(tensor.data) + tensor.offset;
  view.itemsize = tensor.type.bits * tensor.type.lanes / 8;
  view.kind = kind_of(tensor.type);
  view.rank = tensor.rank;
  int64_t stride = view.itemsize;
  for (int i = view.rank - 1; i >= 0; --i) {
    if (i < kMaxRank) {
      view.shape[i] = tensor.shape[i];
      // Null in older versions of the protocol: C order.
      view.strides[i] = tensor.strides ? tensor.strides[i] * view.itemsize : stride;
    }
    stride *= tensor.shape[i];
  }
  return view;
}

inline View view_of(const Exchange* exchange, const std::string& op, const char* name,
                    py::handle object) {
  const auto refuse = [&](const std::string& got) {
    throw Error(Fault::kType, op, std::string(name) + " must be a dense tensor, got " + got);
  };
  if (exchange_of(object) != exchange) refuse(Py_TYPE(object.ptr())->tp_name);
  Tensor tensor;
  if (exchange->look(object.ptr(), &tensor) != 0) refuse("one that says: " + python_error());
  if (tensor.device != kCpu)
    throw Error(Fault::kRuntime, op,
                std::string(name) + " must be in this processor's memory, got device type " +
                    std::to_string(tensor.device) + " of DLPack");
  const View view = view_of_tensor(tensor);
  if (!is_empty(tensor) && !tensor.data) refuse("one without memory");
  return view;
}

// A tensor of the library's over memory of the engine's, which goes back when the tensor does.
struct Result {
  Owned owned;
  Block block;
  int64_t shape[kMaxRank], strides[kMaxRank];
};

inline py::object make_result(const Exchange* exchange, const std::string& op, ElementType type,
                              const Shape& shape, View* view) {
  auto result = std::make_unique<Result>();
  result->block = Block(type.bytes * elements_of(shape), op, "results");
  *view = fresh_view(result->block.data(), type, shape);
  for (int i = 0; i < view->rank; ++i) {
    result->shape[i] = view->shape[i];
    result->strides[i] = view->strides[i] / view->itemsize;
  }
  Owned& owned = result->owned;
  owned = {};
  owned.version = {1, 0};
  owned.context = result.get();
  owned.free = [](Owned* self) { delete static_cast<Result*>(self->context); };
  owned.tensor = {result->block.data(),
                  kCpu,
                  0,
                  shape.size(),
                  {type.kind == 'B' ? kBfloat : kFloat, static_cast<uint8_t>(8 * type.bytes), 1},
                  result->shape,
                  result->strides,
                  0};
  void* object = nullptr;
  // Taken by the library, whether it succeeds or not.
  if (exchange->give(&result.release()->owned, &object) != 0)
    throw Error(Fault::kRuntime, op,
                "the library of the tensors must take the results, got: " + python_error());
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
}

}  // namespace dlpack
}  // namespace fastrnn
