// A pass as its kernels see it: rows in memory, lengths, and the rules of time in core/schedule.h.
// Rows run in lockstep, so scan steps count from the start of all T.
#pragma once

#include "cells/gates.h"
#include "core/planes.h"
#include "gpu.h"

namespace fastrnn {
namespace gpu {

template <class S> FASTRNN_DEVICE S* row_of(const RowView& rows, int64_t t, int64_t b) {
  return static_cast<S*>(rows.base) + t * rows.t_stride + b * rows.b_stride;
}

// The length of a row, within 0..T whatever the array holds; the first wrong one is reported.
FASTRNN_DEVICE int64_t length_of(const RowSteps& scan, int64_t b) {
  if (!scan.length) return scan.T;
  const char* p = static_cast<const char*>(scan.length) + b * scan.length_stride;
  int64_t n = 0;
  bool above = false;  // of what int64 holds
  switch (scan.length_bytes) {
    case 1: n = scan.length_signed ? *(const int8_t*)p : *(const uint8_t*)p; break;
    case 2: n = scan.length_signed ? *(const int16_t*)p : *(const uint16_t*)p; break;
    case 4: n = scan.length_signed ? *(const int32_t*)p : int64_t(*(const uint32_t*)p); break;
    default: n = *(const int64_t*)p; above = !scan.length_signed && n < 0;
  }
  if (n >= 0 && n <= scan.T) return n;
  record_error(scan.error, kLengthOutside, b, n);
  return n < 0 && !above ? 0 : scan.T;
}

// Whether rows of h have another width than the units.
struct RowsOfUnits {
  static constexpr bool kProjects = false;
};
struct ProjectedRows {
  static constexpr bool kProjects = true;
};

// A pass in one direction, with what a step asks of it. P: ForwardPass or BackwardPass.
template <class P, class D, class Rows = RowsOfUnits> struct PassView {
  const P& pass;
  const D& d;

  FASTRNN_DEVICE Schedule schedule() const { return {pass.scan.inputs, d.reverse != 0}; }
  FASTRNN_DEVICE int64_t time(int64_t s) const { return schedule().time(s, pass.scan.T); }
  // The index of time t in arrays that hold the window alone.
  FASTRNN_DEVICE int64_t window_time(int64_t t) const {
    return t - (d.reverse ? pass.scan.T - pass.end : pass.begin);
  }
  // Values of a row of h.
  FASTRNN_DEVICE int64_t h_width() const {
    if constexpr (Rows::kProjects)
      return pass.P;
    else
      return pass.H;
  }
  // Of numbers up to the greater of both widths: is it a value of h, is it a unit?
  FASTRNN_DEVICE bool is_of_h(int64_t u) const { return !Rows::kProjects || u < pass.P; }
  FASTRNN_DEVICE bool is_unit(int64_t u) const { return !Rows::kProjects || u < pass.H; }
  FASTRNN_DEVICE bool runs(int64_t t, int64_t b, int64_t length) const {
    return t < length && !pass.scan.inputs.hold.is_set(t, b);
  }
  // What a row goes on from at a time below its length; see Schedule::before.
  FASTRNN_DEVICE int64_t before(int64_t t, int64_t b, int64_t length) const {
    if (d.before) return d.before[t * pass.scan.B + b];
    return schedule().before(t, b, length);
  }
  FASTRNN_DEVICE bool starts_from_zero(int64_t t, int64_t b, int64_t length) const {
    return before(t, b, length) == Schedule::kZero;
  }
  // The step that a row runs last, or kInitial.
  FASTRNN_DEVICE int64_t last(int64_t b, int64_t length) const {
    if (d.before) return d.before[pass.scan.T * pass.scan.B + b];
    return length ? schedule().time(length - 1, length) : Schedule::kInitial;
  }
  // Does a row that does not run at t give out what its last step has?
  FASTRNN_DEVICE bool repeats(int64_t t, int64_t b, int64_t length) const {
    return pass.scan.inputs.repeat_held && t < length && before(t, b, length) >= 0;
  }

  // The row of h that `before` means; null for zeros.
  template <class S> FASTRNN_DEVICE const S* h_of(int64_t before, int64_t b) const {
    if (before >= 0) return row_of<const S>(d.h, before, b);
    if (before == Schedule::kZero || !d.initial[0]) return nullptr;
    return static_cast<const S*>(d.initial[0]) + b * h_width();
  }
  // The row of h that is multiplied by R at t. Whole rows.
  template <class S> FASTRNN_DEVICE const S* h_before(int64_t t, int64_t b, int64_t length) const {
    return h_of<S>(before(t, b, length), b);
  }
};

// Which unit of which row at which step: scan step s is the time t.
struct UnitIndex {
  int64_t s, t, b, u;
};

// The values of a unit that stay with its thread from step to step: forward the cell state,
// backward the gradients of all states. `stride` apart in shared memory.
template <class A> struct Carried {
  A* values;
  int stride;

  FASTRNN_DEVICE A& operator[](int k) const { return values[k * stride]; }
};

template <class Cell> struct CellTraits {
  static constexpr int G = Cell::kGates, S = Cell::kStates, V = Cell::kSaved, U = Cell::kUnit;
  static_assert(S <= kMaxStates, "raise kMaxStates");
  // Of a step's products: the gates of v, where it has any, come after those of h.
  static constexpr int kSecondGates = gate_count(Phases<Cell>::kSecond);
  static constexpr int kFirstGates = G - kSecondGates;
  static_assert(Phases<Cell>::kSecond >> kFirstGates == (1u << kSecondGates) - 1,
                "the gates of the second product must be the last");
  static FASTRNN_HOST_DEVICE constexpr bool is_split(int g) { return Cell::kSplit >> g & 1u; }
  // By the order of core/planes.h.
  static FASTRNN_HOST_DEVICE constexpr int recurrent_plane(int g) {
    return fastrnn::recurrent_plane(G, Cell::kSplit, g);
  }
  static FASTRNN_HOST_DEVICE constexpr int planes() { return plane_count(G, Cell::kSplit); }
};

// Of numbers that are not negative. A division of 32 bits is by far the shorter one.
FASTRNN_DEVICE int64_t quotient(int64_t a, int64_t b) {
  if (a <= INT32_MAX && b <= INT32_MAX) return static_cast<int32_t>(a) / static_cast<int32_t>(b);
  return a / b;
}

// Parameter k of a unit for itself; zeros where there are none.
template <class S>
FASTRNN_DEVICE Acc<S> unit_parameter(const void* w_diag, int k, int64_t H, int64_t u) {
  return w_diag ? widen(static_cast<const S*>(w_diag)[k * H + u]) : Acc<S>(0);
}

}  // namespace gpu
}  // namespace fastrnn
