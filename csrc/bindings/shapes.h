// The shapes of results for sizes that are not numbers yet: what a compiler's tensors without
// values need. The rules are those of core/call.h.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "../core/call.h"
#include "../cpu/dispatch.h"
#include "../cpu/kernel_table.h"

namespace fastrnn {

namespace py = pybind11;

// An int, or a symbol of torch's: arithmetic is Python's.
class Symbol {
 public:
  Symbol(int64_t n = 0) : value_(py::int_(n)) {}
  explicit Symbol(py::object value) : value_(std::move(value)) {}
  const py::object& object() const { return value_; }

  friend Symbol operator*(const Symbol& a, const Symbol& b) { return Symbol(a.value_ * b.value_); }
  friend Symbol ceil_div(const Symbol& n, int64_t k) {  // as Python rounds: -(-n // k)
    PyObject* quotient = PyNumber_FloorDivide((-n.value_).ptr(), py::int_(k).ptr());
    if (!quotient) throw py::error_already_set();
    return Symbol(-py::reinterpret_steal<py::object>(quotient));
  }

 private:
  py::object value_;
};

inline py::tuple tuple_of(const BasicShape<Symbol>& shape) {
  py::tuple sizes(static_cast<size_t>(shape.size()));
  for (int i = 0; i < shape.size(); ++i) sizes[static_cast<size_t>(i)] = shape[i].object();
  return sizes;
}

// Of y, of each state, and of the tape's three arrays, for an x of this shape.
inline py::tuple result_shapes(const std::string& cell, int64_t layers, int64_t directions,
                               const py::tuple& x, py::object units, py::object outputs,
                               bool batch_first, int64_t recompute) {
  const KernelEntry& k = find_kernel(cell, kFloat32);
  Spec spec{cell, 4, layers, directions, 0, 0, true, k.gates, k.states, k.saved};
  BasicProblem<Symbol> p;
  p.batched = x.size() == 3, p.batch_first = batch_first, p.recompute = recompute;
  p.T = Symbol(x[p.batched && batch_first ? 1 : 0]);
  p.B = p.batched ? Symbol(x[batch_first ? 0 : 1]) : Symbol(1);
  const Widths<Symbol> widths{Symbol(std::move(units)), Symbol(std::move(outputs))};
  const auto shape = [&](Role role, int64_t item = 0) {
    return tuple_of(role_shape(role, spec, widths, p, item));
  };
  py::tuple finals(static_cast<size_t>(spec.states));
  for (size_t i = 0; i < finals.size(); ++i)
    finals[i] = shape(Role::kFinal, static_cast<int64_t>(i));
  return py::make_tuple(
      shape(Role::kY), finals,
      py::make_tuple(shape(Role::kInner), shape(Role::kStates), shape(Role::kSaved)));
}

}  // namespace fastrnn
