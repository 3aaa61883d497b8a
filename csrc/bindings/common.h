// What both modules share: exceptions, shapes, and the containers of arrays that a call brings.
//
// A `Source` says whose arrays a call takes: it has the layer's `spec`, and an overload of
// view_of(source, name, object) makes a View of one of them.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <utility>
#include <vector>

#include "../core/error.h"
#include "../core/problem.h"
#include "../core/validate.h"

namespace fastrnn {

namespace py = pybind11;

inline py::tuple tuple_of(const Shape& shape) {
  py::tuple result(static_cast<size_t>(shape.size()));
  for (int i = 0; i < shape.size(); ++i) result[static_cast<size_t>(i)] = shape[i];
  return result;
}

// Names and shapes.
inline py::list list_of(const std::vector<Parameter>& parameters) {
  py::list all;
  for (const Parameter& p : parameters) all.append(py::make_tuple(p.name, tuple_of(p.shape)));
  return all;
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

// Tuples that live as long as a call: a list may lose its arrays to another thread meanwhile.
class Kept {
 public:
  py::tuple keep(py::object items) { return items_[count_++] = std::move(items); }

 private:
  py::object items_[4];  // state, masks, tape and dstate
  int count_ = 0;
};

// The items of a tuple or list; never of an array: iterating over one could take for ever. `rule`
// makes the sentence that the call is refused with.
template <class Rule>
py::tuple items_of(const std::string& op, Rule rule, py::handle object, Kept& kept) {
  if (!PyTuple_Check(object.ptr()) && !PyList_Check(object.ptr()))
    throw Error(Fault::kType, op, rule() + ", got " + Py_TYPE(object.ptr())->tp_name);
  PyObject* items = PySequence_Tuple(object.ptr());
  if (!items) throw py::error_already_set();  // a list of a class with an iterator of its own
  return kept.keep(py::reinterpret_steal<py::object>(items));
}

template <class Source>
std::vector<View> views_of(const Source& source, const char* name, py::handle objects, Kept& kept) {
  std::vector<View> views;
  const auto rule = [&] { return std::string(name) + " must be a tuple or list of arrays"; };
  for (py::handle object : items_of(source.spec.op, rule, objects, kept))
    views.push_back(view_of(source, name, object));
  return views;
}

// A state: None, an array, or for a cell with more than one state a tuple of them.
template <class Source> void states_of(const Source& source, const char* name, py::handle object,
                                       View (&views)[kMaxStates], Kept& kept) {
  const Spec& spec = source.spec;
  if (object.is_none()) return;
  if (spec.states == 1) {
    views[0] = view_of(source, name, object);
    return;
  }
  const auto rule = [&](const char* what) {
    return std::string(name) + what + std::to_string(spec.states) + " arrays";
  };
  const py::tuple arrays =
      items_of(spec.op, [&] { return rule(" must be a tuple of "); }, object, kept);
  if (static_cast<int64_t>(arrays.size()) != spec.states)
    throw Error(Fault::kValue, spec.op,
                rule(" must hold ") + ", got " + std::to_string(arrays.size()));
  for (size_t k = 0; k < arrays.size(); ++k) {
    views[k] = view_of(source, name, arrays[k]);
    if (!views[k].given)
      throw Error(Fault::kType, spec.op, std::string(name) + " must hold arrays, got None");
  }
}

// The tape's three arrays.
template <class Source>
void tape_of(const Source& source, py::handle tape, Call& call, Kept& kept) {
  const std::vector<View> arrays = views_of(source, "arrays of the tape", tape, kept);
  if (arrays.size() != 3)
    throw Error(Fault::kValue, source.spec.op,
                "a tape must hold 3 arrays, got " + std::to_string(arrays.size()));
  call.inner = arrays[0], call.states = arrays[1], call.saved = arrays[2];
}

}  // namespace fastrnn
