// Calls of the CUDA engine.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../core/validate.h"
#include "../cuda/executor.h"
#include "array.h"
#include "fields.h"
#include "python_library.h"

namespace fastrnn {

// A call of Python's on its way to the engine.
class GpuCall {
 public:
  GpuCall(const gpu::Stack& stack, const py::tuple& parameters, const py::tuple& values,
          py::object calls, bool can_be_recorded)
      : stack_(stack),
        spec_(stack.spec),
        values_(values),
        parameters_(parameters),
        library_(spec_, std::move(calls), can_be_recorded) {}

  py::tuple run(void* stream) {
    const Fields fields(spec_.op, values_);
    read(fields);
    for (const Role role : {Role::kBatchSizes, Role::kRecurrentMasks})
      if (items_of(rule_of(role), spec_, call_).first->given)
        throw Error(Fault::kNotImplemented, spec_.op,
                    std::string(rule_of(role).names[0]) + " have no kernel on a GPU, got some");
    const Problem p = check_input(spec_, call_.x, call_.batch_first, call_.recompute);
    const gpu::OnDevice here(spec_.op, call_.x.device);
    gpu::raise_device_errors(spec_.op, call_.x.device);
    const std::vector<py::object> made = make_results(fields, p);
    check_call(spec_, p, call_);
    place_lengths(fields, p);
    make_contiguous();
    gpu::execute(stack_, call_, p, numbers_, library_, stream);
    return tuple_of_results(spec_, fields, call_, made);
  }

 private:
  const gpu::Stack& stack_;
  const Spec& spec_;
  const py::tuple& values_;
  const py::tuple& parameters_;
  PythonLibrary library_;
  Call call_;
  Kept kept_;
  gpu::Numbers numbers_;

  struct Source {
    const Spec& spec;
  };
  friend View view_of(const Source& source, const char* name, py::handle object) {
    // Lengths may be NumPy's: their values are checked at once, and copied to the device.
    if (py::isinstance<py::array>(object) &&
        (std::string(name) == "lengths" || std::string(name) == "batch_sizes"))
      return fastrnn::view_of(Caller{source.spec}, name, object);
    return device_view(source.spec.op, name, object);
  }

  void read(const Fields& fields) {
    call_ = read_call(Source{spec_}, fields, kept_);
    for (const py::handle array : parameters_)
      call_.parameters.push_back(device_view(spec_.op, "a parameter", array));
    number(Role::kX, fields[Role::kX]);
    numbers_.first[static_cast<int>(Role::kParameter)] = library_.size();
    for (const py::handle array : parameters_)
      library_.add(py::reinterpret_borrow<py::object>(array));
    if (call_.backward()) {
      const auto tape = py::reinterpret_borrow<py::object>(fields[Role::kInner]);
      number(Role::kInner, py::sequence(tape)[0]);
    }
  }
  void number(Role role, py::handle object) {
    numbers_.first[static_cast<int>(role)] =
        library_.add(py::reinterpret_borrow<py::object>(object));
  }

  // All of them in one call of the library.
  std::vector<py::object> make_results(const Fields& fields, const Problem& p) {
    std::vector<gpu::Request> requests;
    std::vector<View*> places;
    const int first = library_.size();
    for_new_results(spec_, p, fields, call_, [&](const RoleRule& rule, int64_t i, const Shape& s) {
      if (i == 0)
        numbers_.first[static_cast<int>(rule.role)] = first + static_cast<int>(requests.size());
      requests.push_back(
          {s, is_accumulator(rule, i) ? gpu::Elements::kAccumulator : gpu::Elements::kStorage});
      places.push_back(&item_of(rule, i, call_));
    });
    int number = 0;
    const std::vector<View> views = library_.allocate(requests, &number);
    std::vector<py::object> made;
    for (size_t i = 0; i < places.size(); ++i) {
      *places[i] = views[i];
      made.push_back(library_.object(number + static_cast<int>(i)));
    }
    return made;
  }

  // Lengths that the host has: checked here, and copied to the device.
  void place_lengths(const Fields& fields, const Problem& p) {
    if (!call_.lengths.given || call_.lengths.device != kHost) return;
    std::vector<int64_t> values(static_cast<size_t>(p.B));
    read_lengths(spec_, p, call_.lengths, values.data());
    const int array = library_.add_moved(fields[Role::kLengths]);
    call_.lengths = device_view(spec_.op, "lengths", library_.object(array));
  }

  // What kernels and products find by one pointer must be in C order, other inputs in their last
  // dimension: else a copy by the library takes its place.
  void make_contiguous() {
    const auto take = [&](Role role, int64_t item, bool block) {
      View& view = item_of(rule_of(role), item, call_);
      if (!view.given || (has_contiguous_rows(view) && (!block || is_contiguous(view)))) return;
      const int array = library_.add_copied(object_of(role, item));
      if (role == Role::kX) numbers_.first[static_cast<int>(role)] = array;
      view = device_view(spec_.op, "a copy", library_.object(array));
    };
    take(Role::kX, 0, true);
    take(Role::kLengths, 0, false);
    for (int64_t k = 0; k < spec_.states; ++k) {
      take(Role::kInitial, k, true);
      take(Role::kFinalGradient, k, true);
    }
    for (int64_t l = 0; l < static_cast<int64_t>(call_.masks.size()); ++l)
      take(Role::kMask, l, false);
    if (call_.backward()) take(Role::kDy, 0, false), take(Role::kY, 0, false);
  }
  py::object object_of(Role role, int64_t item) const {
    const Fields fields(spec_.op, values_);
    const auto object = py::reinterpret_borrow<py::object>(fields[role]);
    const Each each = rule_of(role).each;
    const bool one = each == Each::kCall || (each == Each::kState && spec_.states == 1);
    return one ? object : py::object(py::sequence(object)[static_cast<size_t>(item)]);
  }
};

inline py::tuple run_on_gpu(const gpu::Stack& stack, const py::tuple& parameters,
                            const py::tuple& call, py::object calls, uintptr_t stream,
                            bool can_be_recorded) {
  return GpuCall(stack, parameters, call, std::move(calls), can_be_recorded)
      .run(reinterpret_cast<void*>(stream));
}

}  // namespace fastrnn
