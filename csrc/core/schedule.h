// When each step of a row is: lengths, directions and resets become the times of scan steps and the
// places where a row starts from zero. Kernels of both engines ask here, and no other file has a
// rule of time; where the rows of a time are in memory is an engine's own matter.
#pragma once

#include "shared.h"

namespace fastrnn {

// A flag of each step and row: data[t * t_stride + b * b_stride] != 0. Strides are in bytes.
struct StepFlags {
  const uint8_t* data;  // null: set nowhere
  int64_t t_stride, b_stride;

  FASTRNN_HOST_DEVICE bool is_set(int64_t t, int64_t b) const {
    return data && data[t * t_stride + b * b_stride] != 0;
  }
};
// What a call says of single steps; the same for all layers and directions.
struct StepInputs {
  StepFlags reset;  // a new sequence starts
};

// The steps of rows in one direction. A row of some length takes part at the times below it.
struct Schedule {
  const StepInputs& inputs;
  bool reverse;

  // Of scan step s, where `steps` are scanned: those of the row, or of all rows in lockstep.
  FASTRNN_HOST_DEVICE int64_t time(int64_t s, int64_t steps) const {
    return reverse ? steps - 1 - s : s;
  }
  FASTRNN_HOST_DEVICE int64_t time_before(int64_t t) const { return reverse ? t + 1 : t - 1; }

  // Of a row that takes part at t: is it its first step; does it start from zero, whatever came
  // before? (In reverse a piece is entered at its end, the step before the next one's start.)
  FASTRNN_HOST_DEVICE bool is_first(int64_t t, int64_t length) const {
    return t == time(0, length);
  }
  // For whole passes: false where no step starts from zero.
  FASTRNN_HOST_DEVICE bool may_start_from_zero() const { return inputs.reset.data != nullptr; }
  FASTRNN_HOST_DEVICE bool starts_from_zero(int64_t t, int64_t b, int64_t length) const {
    if (!reverse) return inputs.reset.is_set(t, b);
    return t + 1 < length && inputs.reset.is_set(t + 1, b);
  }
};

}  // namespace fastrnn
