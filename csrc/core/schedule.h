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
  StepFlags reset;   // a new sequence starts; where the row is held, when it next runs
  StepFlags hold;    // the row sits out: its states stay, and its output is zero ...
  bool repeat_held;  // ... or that of the last step before that ran, in the pass's direction
};

// The steps of rows in one direction. A row of some length takes part at the times below it.
struct Schedule {
  // Where a row goes on from no step: from its initial state, or from zero.
  static constexpr int64_t kInitial = -1, kZero = -2;

  const StepInputs& inputs;
  bool reverse;

  // Of scan step s, where `steps` are scanned: those of the row, or of all rows in lockstep.
  FASTRNN_HOST_DEVICE int64_t time(int64_t s, int64_t steps) const {
    return reverse ? steps - 1 - s : s;
  }
  FASTRNN_HOST_DEVICE int64_t time_before(int64_t t) const { return reverse ? t + 1 : t - 1; }

  // Does a row that takes part at t start from zero there, whatever came before? (In reverse a
  // piece is entered at its end, the step before the next one's start.)
  FASTRNN_HOST_DEVICE bool starts_from_zero(int64_t t, int64_t b, int64_t length) const {
    if (!reverse) return inputs.reset.is_set(t, b);
    return t + 1 < length && inputs.reset.is_set(t + 1, b);
  }
  // For whole passes: false where no step starts from zero.
  FASTRNN_HOST_DEVICE bool may_start_from_zero() const { return inputs.reset.data != nullptr; }
  // What a row that is never held goes on from at t: the time of a step, or kInitial or kZero.
  FASTRNN_HOST_DEVICE int64_t before(int64_t t, int64_t b, int64_t length) const {
    if (starts_from_zero(t, b, length)) return kZero;
    return t == time(0, length) ? kInitial : time_before(t);
  }
};

// A row that may be held, whose times are taken one after the other in the schedule's order. A
// reset of a step that is held belongs to the next one that runs, in the order of time.
struct HeldRow {
  const Schedule& schedule;
  int64_t b;
  int64_t last = Schedule::kInitial;  // the step that the row has run last
  bool reset = false;                 // a new sequence starts between that and the next

  FASTRNN_HOST_DEVICE bool runs(int64_t t) const { return !schedule.inputs.hold.is_set(t, b); }

  // What the row goes on from at time t; where it is held, what it will go on from.
  FASTRNN_HOST_DEVICE int64_t take(int64_t t) {
    // Without branches: holds come as they like.
    const bool here = schedule.inputs.reset.is_set(t, b), run = runs(t);
    reset |= here & !schedule.reverse;
    // In reverse a reset ends the sequence before it, and before the first step there is none.
    const bool from_zero = run & reset & (last >= 0 || !schedule.reverse);
    const int64_t from = from_zero ? Schedule::kZero : last;
    last = run ? t : last;
    reset = (reset & !run) | (here & schedule.reverse);
    return from;
  }
};

}  // namespace fastrnn
