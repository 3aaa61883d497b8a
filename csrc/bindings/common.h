// What both modules share: the engines' exceptions as Python's, by one table, and shapes.
#pragma once

#include <pybind11/pybind11.h>

#include "../core/error.h"
#include "../core/problem.h"

namespace fastrnn {

namespace py = pybind11;

inline py::tuple tuple_of(const Shape& shape) {
  py::tuple result(static_cast<size_t>(shape.size()));
  for (int i = 0; i < shape.size(); ++i) result[static_cast<size_t>(i)] = shape[i];
  return result;
}

// A ValueError of a module's own for wrong ranks, so that adapters can tell them from others.
inline PyObject*& rank_error() {
  static PyObject* error = nullptr;
  return error;
}

inline PyObject* exception_of(Fault fault) {
  switch (fault) {
    case Fault::kValue: return PyExc_ValueError;
    case Fault::kRank: return rank_error();
    case Fault::kType: return PyExc_TypeError;
    case Fault::kNotImplemented: return PyExc_NotImplementedError;
    case Fault::kMemory: return PyExc_MemoryError;
    case Fault::kRuntime: break;
  }
  return PyExc_RuntimeError;
}

inline void translate_errors(py::module_& m) {
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      PyErr_SetString(exception_of(e.fault()), e.what());
    }
  });
  const auto name = m.attr("__name__").cast<std::string>() + ".RankError";
  rank_error() = PyErr_NewException(name.c_str(), PyExc_ValueError, nullptr);
  if (!rank_error()) throw py::error_already_set();
  m.attr("RankError") = py::handle(rank_error());
}

}  // namespace fastrnn
