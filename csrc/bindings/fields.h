// Python's class Call (python/fastrnn/_engine.py) and the results of a call: a tuple goes in, whose
// fields are arrays that the table of roles names and options; a tuple comes back.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../core/call.h"
#include "common.h"

namespace fastrnn {

enum Option {
  kBatchFirst,
  kReverse,
  kRepeatHeld,
  kKind,
  kRecompute,
  kThreads,
  kWantDx,
  kWantParameters,
  kWholeTape,
  kOptions
};
constexpr const char* kOptionNames[kOptions] = {"batch_first", "reverse",         "repeat_held",
                                                "kind",        "recompute",       "threads",
                                                "want_dx",     "want_parameters", "whole_tape"};

// Where the fields are: the arrays that every kind of call may have, then options, then those of
// backward. So the calls that are made most often have the shortest tuples.
struct FieldPlaces {
  std::vector<std::string> names;
  int first_option = 0;
  int of_role[kRoleCount] = {};  // -1: none

  FieldPlaces() {
    add_roles(true);
    first_option = static_cast<int>(names.size());
    names.insert(names.end(), kOptionNames, kOptionNames + kOptions);
    add_roles(false);
  }

 private:
  void add_roles(bool of_infer) {
    for (const RoleRule& rule : kRoles) {
      int& place = of_role[static_cast<int>(rule.role)];
      if (!rule.field) place = -1;
      if (!rule.field || (rule.uses.infer != Use::kNone) != of_infer) continue;
      if (names.empty() || names.back() != rule.field)  // the tape's arrays are one field
        names.emplace_back(rule.field);
      place = static_cast<int>(names.size()) - 1;
    }
  }
};
inline const FieldPlaces& field_places() {
  static const FieldPlaces places;
  return places;
}

// The numbers of the kinds of call, by the names that Python's has for them.
inline py::dict kinds() {
  py::dict all;
  all["INFER"] = static_cast<int>(Kind::kInfer);
  all["FORWARD"] = static_cast<int>(Kind::kForward);
  all["BACKWARD"] = static_cast<int>(Kind::kBackward);
  return all;
}

// A tuple of fields; those that are left out at its end are None, zero or False.
class Fields {
 public:
  Fields(const std::string& op, const py::tuple& values)
      : op_(op), values_(values), places_(field_places()) {
    if (values.empty() || values.size() > places_.names.size())
      throw Error(Fault::kType, op,
                  "a call must have 1 to " + std::to_string(places_.names.size()) +
                      " fields, got " + std::to_string(values.size()));
  }
  py::handle operator[](Role role) const {
    const int place = places_.of_role[static_cast<int>(role)];
    return has(place) ? at(place) : py::handle(Py_None);
  }
  int64_t number(Option option) const {
    const int place = places_.first_option + option;
    if (!has(place)) return 0;
    const int64_t n = PyLong_AsLongLong(at(place).ptr());
    if (n == -1 && PyErr_Occurred()) throw py::error_already_set();
    return n;
  }
  Kind kind() const {
    const int64_t n = number(kKind);
    if (n < 0 || n > static_cast<int64_t>(Kind::kBackward))
      throw Error(Fault::kValue, op_, "kind must be 0, 1 or 2, got " + std::to_string(n));
    return static_cast<Kind>(n);
  }
  bool flag(Option option) const {
    const int place = places_.first_option + option;
    if (!has(place)) return false;
    const int truth = PyObject_IsTrue(at(place).ptr());
    if (truth < 0) throw py::error_already_set();
    return truth != 0;
  }

 private:
  const std::string& op_;
  const py::tuple& values_;
  const FieldPlaces& places_;
  bool has(int i) const { return i < PyTuple_GET_SIZE(values_.ptr()); }
  py::handle at(int i) const { return PyTuple_GET_ITEM(values_.ptr(), i); }
};

// A call with the arrays that were given.
template <class Source> Call read_call(const Source& source, const Fields& fields, Kept& kept) {
  Call call;
  call.kind = fields.kind();
  call.batch_first = fields.flag(kBatchFirst);
  call.reverse = fields.flag(kReverse);
  call.repeat_held = fields.flag(kRepeatHeld);
  call.recompute = fields.number(kRecompute);
  call.whole_tape = fields.flag(kWholeTape);
  const auto read = [&](const RoleRule& rule) {
    const Use use = rule.use(call.kind);
    const py::handle object = fields[rule.role];
    if (rule.layout == Layout::kBlock) {  // of the tape
      if (rule.role == Role::kInner) tape_of(source, object, call, kept);
    } else if (rule.each == Each::kState) {
      states_of(source, rule.field, object, call.*rule.place.states, kept);
    } else if (rule.each == Each::kInnerLayer) {
      call.has_masks = !object.is_none();
      if (call.has_masks) call.masks = views_of(source, "dropout_masks", object, kept);
    } else if (!object.is_none()) {  // most of what may be given is not
      const char* name = is_output(use)                     ? "out"
                         : rule.names[1] && call.backward() ? rule.names[1]
                                                            : rule.names[0];
      call.*rule.place.one = view_of(source, name, object);
    }
  };
  for (const RoleRule* rule : inputs_of(call.kind))
    if (rule->field) read(*rule);
  if (!call.backward()) read(rule_of(Role::kY));  // to be written, where it is given
  return call;
}

// Calls f(rule, item, shape) for each result that is to be made, which is all but a y that was
// given and gradients that are not wanted, in the order of the table.
template <class F>
void for_new_results(const Spec& spec, const Problem& p, const Fields& fields, Call& call, F f) {
  for (const RoleRule* output : outputs_of(call.kind)) {
    const RoleRule& rule = *output;
    if (rule.role == Role::kY && call.y.given) continue;
    if (rule.role == Role::kInputGradient && !fields.flag(kWantDx)) continue;
    if (rule.each != Each::kParameter) {
      const int64_t count = rule.each == Each::kState ? spec.states : 1;
      for (int64_t i = 0; i < count; ++i) f(rule, i, role_shape(rule.role, spec, p, i));
    } else if (fields.flag(kWantParameters)) {
      const int64_t count = spec.passes() * spec.params_per_pass();
      call.dparameters.resize(static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i) f(rule, i, parameter_shape(spec, i));
    }
  }
}

// (y, final), with the tape, or (dx, dinitial, dparameters): of the objects that were made for what
// was wanted; None for what was not.
inline py::tuple tuple_of_results(const Spec& spec, const Fields& fields, const Call& call,
                                  const std::vector<py::object>& made) {
  size_t next = 0;
  const auto take = [&](size_t count) {
    py::tuple items(count);
    for (size_t i = 0; i < count; ++i) items[i] = made[next++];
    return items;
  };
  const auto states = [&]() -> py::object {
    if (spec.states == 1) return made[next++];
    return take(static_cast<size_t>(spec.states));
  };
  if (call.backward()) {
    const py::object dx = fields.flag(kWantDx) ? made[next++] : py::none();
    const py::object dinitial = states();
    const size_t count = call.dparameters.size();
    return py::make_tuple(dx, dinitial, count ? py::object(take(count)) : py::none());
  }
  const py::object y = made.size() > next && call.y.fresh
                           ? made[next++]
                           : py::reinterpret_borrow<py::object>(fields[Role::kY]);
  const py::object final = states();
  if (call.keep_tape()) return py::make_tuple(y, final, take(3));
  return py::make_tuple(y, final);
}

}  // namespace fastrnn
