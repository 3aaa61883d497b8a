// Where the rows of a step are: pointers to (t, b) rows, which cursors move from step to step. Scan
// steps count from the start of each row, so `core/schedule.h` is asked with the row's own length.
#pragma once

#include <stddef.h>

#include "kernel_table.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T> FASTRNN_INLINE T* row_at(const Sequence& q, int64_t t, int64_t b) {
  return static_cast<T*>(q.base) + t * q.t_stride + b * q.b_stride;
}

template <class T> FASTRNN_INLINE T* state_at(const States& s, int k, int64_t b) {
  return s.base[k] ? static_cast<T*>(s.base[k]) + b * s.b_stride[k] : nullptr;
}

template <class T> FASTRNN_INLINE void copy_n(const T* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
template <class T> FASTRNN_INLINE void fill_n(T* to, int64_t n, T value) {
  for (int64_t i = 0; i < n; ++i) to[i] = value;
}

// The addresses of rows, to be read or written; and the values of one.
template <class T> using ConstRows = const T**;
template <class T> using OutRows = T**;
template <class T> using Values = T*;
template <class T> using ConstValues = const T*;

template <class S> FASTRNN_INLINE void clear_n(S* to, int64_t n) {
  fill_n(to, n, narrow<S>(Acc<S>(0)));
}

// Where one recurrence thread's part of n things begins; empty for the threads that only help.
FASTRNN_INLINE int64_t recurrence_part(int64_t n, const ThreadWork& work, int member) {
  return part(n, member < work.recurrence_threads ? member : work.recurrence_threads,
              work.recurrence_threads);
}
// Does the first thread run the recurrence alone, while the others only help with the products?
FASTRNN_INLINE bool has_helpers(const ThreadWork& work) {
  return work.recurrence_threads < work.unit_members;
}

// A driver's object lives in the caller's memory from task to task: placement new, which the C++
// library would otherwise bring.
struct CallerMemory {
  void* address;
};
struct InCallerMemory {
  static void* operator new(size_t, CallerMemory memory) { return memory.address; }
};
template <class Driver, class Pass>
Need next_task(const Pass* pass, const ThreadWork* work, void* state, int first) {
  Driver* driver = static_cast<Driver*>(state);
  if (first) new (CallerMemory{state}) Driver(*pass, *work);
  return driver->task();
}

// Of the part that has so many rows at a step.
template <class Pass> PassSizes sizes_of(const Pass& pass, int64_t rows) {
  return {pass.I,
          pass.H,
          pass.P,
          pass.scan->B,
          rows,
          pass.chunk_rows,
          pass.recurrent_masks.count,
          pass.mask.base != nullptr,
          nullptr};
}

// Carves a block of workspace; with a null block it only counts.
struct Carver {
  char* base;
  int64_t used = 0;
  template <class T> T* take(int64_t count) {
    T* p = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return p;
  }
  template <class T> void take_to(int64_t count, T** at) { *at = take<T>(count); }
};

template <class Pass> struct Steps {
  const Pass& pass;
  const RowSteps& scan;
  const bool held;  // are there rows that are held at some steps?

  explicit Steps(const Pass& p) : pass(p), scan(*p.scan), held(p.scan->times != nullptr) {}

  FASTRNN_INLINE Schedule schedule() const { return {scan.inputs, pass.reverse != 0}; }
  // Of the steps that the row runs, which one scan step s is in the order of time.
  FASTRNN_INLINE int64_t running(int64_t position, int64_t s) const {
    return schedule().time(s, scan.length[position]);
  }
  FASTRNN_INLINE int64_t time(int64_t position, int64_t s) const {
    const int64_t i = running(position, s);
    return held ? scan.times[position][i] : i;
  }
  FASTRNN_INLINE bool starts_from_zero(int64_t position, int64_t s) const {
    return schedule().starts_from_zero(running(position, s), scan.row[position],
                                       scan.length[position]);
  }
  // Calls f(t) for the times at which the row at a position does not run.
  template <class F> void for_idle(int64_t position, F f) const {
    int64_t t = 0;
    for (int64_t i = 0; held && i < scan.length[position]; ++i, ++t)
      for (; t < scan.times[position][i]; ++t) f(t);
    for (t = held ? t : scan.length[position]; t < pass.T; ++t) f(t);
  }
  // Calls f(t) for the held times whose output is that of scan step s.
  template <class F> void for_repeats(int64_t position, int64_t s, F f) const {
    const bool last = s + 1 == scan.length[position];
    const int64_t own = time(position, s), next = last ? 0 : time(position, s + 1);
    const int64_t begin = !pass.reverse ? own + 1 : last ? 0 : next + 1;
    const int64_t end = pass.reverse ? own : last ? scan.end[position] : next;
    for (int64_t t = begin; t < end; ++t) f(t);
  }
  FASTRNN_INLINE bool repeats() const { return held && scan.inputs.repeat_held; }
  // Are rows of a sequence found by a step's own time, and not from the step before?
  FASTRNN_INLINE bool is_scattered(const Sequence& q) const {
    return !q.steps_per_row && (q.offset ? pass.reverse != 0 : held);
  }
  // Which of the steps of a sequence by time step s of a row is, in rows of t_stride.
  FASTRNN_INLINE int64_t place(const Sequence& q, int64_t position, int64_t s) const {
    return q.offset ? q.offset[running(position, s)] : time(position, s);
  }
  // Has a sequence places for steps that rows do not run?
  FASTRNN_INLINE bool has_idle_rows(const Sequence& q) const {
    return !q.steps_per_row && !q.offset;
  }
  // Where a sequence holds step s of the row at a position.
  template <class T> FASTRNN_INLINE T* row(const Sequence& q, int64_t position, int64_t s) const {
    if (q.offset) {
      const int64_t i = q.steps_per_row ? s / q.steps_per_row : running(position, s);
      return static_cast<T*>(q.base) + (q.offset[i] - q.first_row + position) * q.t_stride;
    }
    const int64_t t = q.steps_per_row ? (s - q.first_step) / q.steps_per_row : time(position, s);
    return row_at<T>(q, t, scan.row[position]);
  }
  // State k in an array of states, null where there is none.
  template <class Storage, int k>
  FASTRNN_INLINE StateType<Storage, k>* state(const States& states, Index<k>,
                                              int64_t position) const {
    return state_at<StateType<Storage, k>>(states, k, scan.row[position]);
  }
  // State k as it enters the window; `zeros` where there is none.
  template <class T>
  FASTRNN_INLINE const T* entering(int k, int64_t position, const T* zeros) const {
    if (pass.begin > 0) return row<const T>(pass.entering[k], position, pass.begin - 1);
    const T* given = state_at<const T>(pass.initial, k, scan.row[position]);
    return given ? given : zeros;
  }
  // Elements from the row of step s to that of step s + 1.
  FASTRNN_INLINE int64_t stride(const Sequence& q, int64_t s) const {
    if (q.offset) {
      const int64_t n = max(q.steps_per_row, 1);
      return (q.offset[(s + 1) / n] - q.offset[s / n]) * q.t_stride;
    }
    if (q.steps_per_row > 1) return (s + 1 - q.first_step) % q.steps_per_row ? 0 : q.t_stride;
    if (q.steps_per_row == 1) return q.t_stride;
    return pass.reverse ? -q.t_stride : q.t_stride;
  }
  // Rows of [begin, end) that are active at step s, given a count that was right at a step before
  // (s ascending).
  FASTRNN_INLINE int64_t shrink(int64_t begin, int64_t count, int64_t s) const {
    while (count > 0 && scan.length[begin + count - 1] <= s) --count;
    return count;
  }
  // The same with s descending.
  FASTRNN_INLINE int64_t grow(int64_t begin, int64_t end, int64_t count, int64_t s) const {
    while (begin + count < end && scan.length[begin + count] > s) ++count;
    return count;
  }
};

// The addresses of a sequence's rows at one step, of `count` positions from `first` on. To go from
// step to step costs an addition for each row, where to find a row from nothing costs a
// multiplication and three loads.
template <class T> struct RowCursor {
  T** at;
  Sequence sequence;
  int64_t first;

  template <class Pass> void seek(const Steps<Pass>& steps, int64_t begin, int64_t end, int64_t s) {
    if (sequence.base)
      for (int64_t r = begin; r < end; ++r) at[r] = steps.template row<T>(sequence, first + r, s);
    else
      for (int64_t r = begin; r < end; ++r) at[r] = nullptr;
  }
  template <class Pass>
  FASTRNN_INLINE void advance(const Steps<Pass>& steps, int64_t n, int64_t s) {
    if (steps.is_scattered(sequence)) return scatter(steps, n, s, s + 1);
    move(n, steps.stride(sequence, s));
  }
  template <class Pass>
  FASTRNN_INLINE void retreat(const Steps<Pass>& steps, int64_t n, int64_t s) {
    if (steps.is_scattered(sequence)) return scatter(steps, n, s, s - 1);
    move(n, -steps.stride(sequence, s - 1));
  }
  // From scan step s to another one, each row by its own stride.
  template <class Pass>
  void scatter(const Steps<Pass>& steps, int64_t n, int64_t s, int64_t other) {
    if (!sequence.base) return;
    for (int64_t r = 0; r < n; ++r)
      at[r] += (steps.place(sequence, first + r, other) - steps.place(sequence, first + r, s)) *
               sequence.t_stride;
  }
  FASTRNN_INLINE void move(int64_t n, int64_t stride) {
    if (sequence.base)
      for (int64_t r = 0; r < n; ++r) at[r] += stride;
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
