// The library of a GPU call's arrays, through an object of Python's
// (python/fastrnn/cuda/_driver.py) with the methods empty, moved, copied, multiply, round,
// prepare and run_on.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../core/dtype.h"
#include "../cuda/library.h"
#include "device_array.h"
#include "interpreter.h"

namespace fastrnn {

class PythonLibrary : public gpu::Library {
 public:
  PythonLibrary(const Spec& spec, py::object calls, bool can_be_recorded)
      : spec_(spec), calls_(std::move(calls)), can_be_recorded_(can_be_recorded) {}

  // Makes an object's array known; returns its number.
  int add(py::object object) {
    objects_.push_back(std::move(object));
    return static_cast<int>(objects_.size()) - 1;
  }
  int size() const { return static_cast<int>(objects_.size()); }
  const py::object& object(int array) const { return objects_.at(static_cast<size_t>(array)); }

  // Lengths of the host on the device, and a copy of an array in C order.
  int add_moved(py::handle lengths) { return add(calls_.attr("moved")(lengths)); }
  int add_copied(py::handle array) { return add(calls_.attr("copied")(array)); }

  std::vector<View> allocate(const std::vector<gpu::Request>& requests, int* first) override {
    py::list wanted;
    for (const gpu::Request& r : requests)
      wanted.append(py::make_tuple(tuple_of(r.shape), name_of(r.elements)));
    const py::list made = calls_.attr("empty")(wanted);
    *first = static_cast<int>(objects_.size());
    std::vector<View> views;
    for (const py::handle array : made) {
      views.push_back(device_view(spec_.op, "a new array", array));
      views.back().fresh = true;
      add(py::reinterpret_borrow<py::object>(array));
    }
    return views;
  }

  void multiply(const gpu::Products& products, const gpu::ColumnSums& sums) override {
    py::list all;
    for (const gpu::ColumnSum& sum : sums)
      all.append(py::make_tuple(object(sum.vector), sum.first, tuple_of(sum.of), sum.accumulate));
    calls_.attr("multiply")(list_of(products), all);
  }

  void round(int from, int to, int count) override {
    py::list pairs;
    for (int i = 0; i < count; ++i) pairs.append(py::make_tuple(object(from + i), object(to + i)));
    calls_.attr("round")(pairs);
  }

  std::unique_ptr<gpu::Repeated> prepare(const gpu::Products& products) override {
    struct Prepared : gpu::Repeated {
      py::object call;
      py::object calls;
      Prepared(py::object c, py::object all) : call(std::move(c)), calls(std::move(all)) {}
      void run() override { call(); }
      void run_on(void* stream) override {
        const py::gil_scoped_acquire interpreter;  // a device that is a program calls without it
        calls.attr("run_on")(reinterpret_cast<uintptr_t>(stream), call);
      }
    };
    return std::make_unique<Prepared>(calls_.attr("prepare")(list_of(products)), calls_);
  }
  bool can_be_recorded() const override { return can_be_recorded_; }
  void let_others_go_on(const std::function<void()>& calls) override {
    const OthersGoOn others;
    calls();
  }

 private:
  const Spec& spec_;
  py::object calls_;
  bool can_be_recorded_;
  std::vector<py::object> objects_;

  std::string name_of(gpu::Elements elements) const {
    switch (elements) {
      case gpu::Elements::kStorage: return dtype_name(spec_.kind, spec_.element_bytes);
      case gpu::Elements::kAccumulator: return dtype_name('f', spec_.accumulator_bytes());
      case gpu::Elements::kInt32: break;
    }
    return "int32";
  }
  py::tuple tuple_of(const Shape& shape) const { return fastrnn::tuple_of(shape); }
  py::tuple tuple_of(const gpu::Operand& o) const {
    return py::make_tuple(object(o.array), o.row, o.rows, o.column, o.columns);
  }
  py::list list_of(const gpu::Products& products) const {
    py::list all;
    for (const gpu::Product& p : products)
      all.append(py::make_tuple(tuple_of(p.c), tuple_of(p.a), tuple_of(p.b), p.transpose_a,
                                p.transpose_b, p.accumulate));
    return all;
  }
};

}  // namespace fastrnn
