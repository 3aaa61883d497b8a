// The caller's arrays as Views, NumPy's or another library's: no conversion, no copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "../core/error.h"
#include "../core/problem.h"
#include "../cpu/memory.h"
#include "common.h"
#include "dlpack.h"

namespace fastrnn {

// Whose arrays a call takes and gives: NumPy's, or those of the library with this table.
struct Caller {
  const Spec& spec;
  const dlpack::Exchange* exchange = nullptr;  // null: NumPy
};

// bfloat16 is no type of NumPy's own, but of ml_dtypes'. NumPy gives such a type a number, of which
// the last one that was seen is kept: to look at the name took longer than a small step.
inline std::atomic<int> bfloat16_number{-1};
inline bool is_bfloat16(const py::dtype& dtype) {
  if (dtype.kind() != 'V' || dtype.itemsize() != 2) return false;
  const int number = dtype.num();
  if (number == bfloat16_number.load(std::memory_order_relaxed)) return true;
  if (py::cast<std::string>(dtype.attr("name")) != "bfloat16") return false;
  bfloat16_number.store(number, std::memory_order_relaxed);
  return true;
}
inline py::dtype bfloat16_dtype() {
  const int number = bfloat16_number.load(std::memory_order_relaxed);
  if (number >= 0) return py::dtype(number);
  return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
}
inline py::dtype dtype_of_element(ElementType type) {
  constexpr int kHalf = 23;  // NPY_HALF
  if (type.kind == 'B') return bfloat16_dtype();
  return type.bytes == 4   ? py::dtype::of<float>()
         : type.bytes == 8 ? py::dtype::of<double>()
                           : py::dtype(kHalf);
}

// None gives a View that is not given. The array must outlive the View.
inline View view_of(const Caller& caller, const char* name, py::handle object) {
  View view;
  if (object.is_none()) return view;
  const std::string& op = caller.spec.op;
  if (caller.exchange) return dlpack::view_of(caller.exchange, op, name, object);
  if (!py::isinstance<py::array>(object))
    throw Error(
        Fault::kType, op,
        std::string(name) + " must be a NumPy array, got " + Py_TYPE(object.ptr())->tp_name);
  const auto array = py::reinterpret_borrow<py::array>(object);
  const py::dtype dtype = array.dtype();
  view.given = true;
  view.data = static_cast<char*>(const_cast<void*>(array.data()));
  view.itemsize = dtype.itemsize();
  view.kind = is_bfloat16(dtype) ? 'B' : dtype.kind();
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

// An array in C order. A large one lies in a block that goes back to the pool with it. (NumPy's own
// call: pybind11's constructor allocates three vectors on the way to it.)
inline py::array make_array(const std::string& op, ElementType type, const Shape& shape) {
  const int64_t bytes = type.bytes * elements_of(shape);
  py::object owner;
  void* data = nullptr;
  if (bytes >= kLargeBlock) {
    auto block = std::make_unique<Block>(bytes, op, "results");
    data = block->data();
    const py::capsule whole(block.get(), [](void* p) { delete static_cast<Block*>(p); });
    block.release();
    // Between them an array of bytes: NumPy lets a user turn `writeable` off and on again where an
    // array below is writeable, which a capsule cannot say.
    owner = py::array_t<uint8_t>(bytes, static_cast<const uint8_t*>(data), whole);
  }
  static_assert(sizeof(Py_intptr_t) == sizeof(int64_t), "NumPy's sizes are Shape's");
  py::dtype dtype = dtype_of_element(type);
  const auto& numpy = py::detail::npy_api::get();
  auto array = py::reinterpret_steal<py::array>(numpy.PyArray_NewFromDescr_(
      numpy.PyArray_Type_, dtype.release().ptr(), shape.size(),
      reinterpret_cast<const Py_intptr_t*>(shape.begin()), nullptr, data,
      data ? py::detail::npy_api::NPY_ARRAY_WRITEABLE_ : 0, nullptr));
  if (!array) throw py::error_already_set();
  if (owner && numpy.PyArray_SetBaseObject_(array.ptr(), owner.release().ptr()) < 0)
    throw py::error_already_set();
  return array;
}

// A new array for a result, and its View.
inline py::object make_result(const Caller& caller, ElementType type, const Shape& shape,
                              View* view) {
  const std::string& op = caller.spec.op;
  if (caller.exchange) return dlpack::make_result(caller.exchange, op, type, shape, view);
  py::object array;  // a py::array without an array would make one
  try {
    array = make_array(op, type, shape);
  } catch (py::error_already_set& e) {
    // ValueError: more bytes than NumPy counts.
    if (!e.matches(PyExc_MemoryError) && !e.matches(PyExc_ValueError)) throw;
    throw Error(Fault::kMemory, op,
                "memory for the results must be available, got none for shape " + to_string(shape));
  }
  *view = fresh_view(py::detail::array_proxy(array.ptr())->data, type, shape);
  return array;
}

}  // namespace fastrnn
