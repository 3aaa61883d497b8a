// The buffers of a program in a GPU's memory, as the kernels and the library's products find them.
#pragma once

#include <algorithm>
#include <vector>

#include "../core/program.h"
#include "library.h"
#include "pass.h"
#include "stack.h"

namespace fastrnn {
namespace gpu {

// The numbers that the library's arrays of a call have: those of a role follow each other.
struct Numbers {
  int first[kRoleCount];
  Numbers() { std::fill_n(first, kRoleCount, kNone); }
  int of(Role role, int64_t item) const {
    return first[static_cast<int>(role)] + static_cast<int>(item);
  }

 private:
  static constexpr int kNone = -(1 << 30);  // of a role that products do not use: no array's number
};

class Arrays {
 public:
  // scratch: what the program needs besides, in its order; the first of it has this number.
  Arrays(const Stack& stack, const Call& call, const Problem& problem, const Program& program,
         const Numbers& numbers, const std::vector<View>& scratch, int first_scratch);

  Operand operand(const Matrix& m) const;
  // A buffer's rows of time and batch, from a column on.
  RowView rows(int buffer, int64_t column = 0) const;
  int64_t bytes(int buffer) const;
  void* data(int buffer) const { return of(buffer).data; }
  RowSteps steps() const;
  // Where rows are held, the table that LayOutPass makes.
  void set_before(const View& view) { before_ = reinterpret_cast<const int32_t*>(view.data); }

  ForwardPass forward(const Scan& scan) const;
  // dstate: (S, D, B, the widest state), what goes from window to window.
  BackwardPass backward(const ScanBackward& scan, const View& dstate) const;
  CopyPass copy(const Copy& copy) const;

 private:
  struct Placed {
    char* data;   // of the buffer, which may be a part of the array
    int array;    // the library's number
    int64_t row;  // where the part begins in the array, in rows
    const View* view;
  };

  const Stack& stack_;
  const Call& call_;
  const Problem& p_;
  const Program& program_;
  std::vector<Placed> placed_;
  const int32_t* before_ = nullptr;

  const Placed& of(int buffer) const { return placed_[static_cast<size_t>(buffer)]; }
  const Buffer& buffer_of(int buffer) const {
    return program_.buffers[static_cast<size_t>(buffer)];
  }
  Placed place(const Buffer& buffer, const Numbers& numbers) const;
  const void* parameter(const Recurrence& r, int64_t d, int kind) const;
  const int32_t* before(int64_t d) const {
    return before_ ? before_ + d * (p_.T + 1) * p_.B : nullptr;
  }
  char* state_of_pass(const View& view, int64_t layer, int64_t d, int k) const;
  RowView part(int buffer, int64_t steps, int64_t width) const;
  RowView states(int buffer, const Recurrence& r, int64_t d, int k) const;
  RowView saved(const Recurrence& r, int64_t d) const;
  template <class P, class D>
  void fill(const Recurrence& r, int64_t d, const P& pass, D* out) const;
  template <class P> P begin(const Recurrence& r) const;
};

}  // namespace gpu
}  // namespace fastrnn
