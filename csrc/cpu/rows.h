// Where the rows of a step are: pointers to (t, b) rows, to the previous states, and the rules of
// lengths, directions and resets. The only place that knows what a scan step is in time.
#pragma once

#include "../core/kernel_table.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T> FASTRNN_INLINE T* row_at(const Sequence& q, int64_t t, int64_t b) {
  return static_cast<T*>(q.base) + t * q.t_stride + b * q.b_stride;
}

template <class T> FASTRNN_INLINE T* state_at(const States& s, int k, int64_t b) {
  return s.base[k] ? static_cast<T*>(s.base[k]) + b * s.b_stride[k] : nullptr;
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
};

template <class Pass> struct Steps {
  const Pass& pass;
  const Scan& scan;

  explicit Steps(const Pass& p) : pass(p), scan(*p.scan) {}

  FASTRNN_INLINE int64_t time(int64_t position, int64_t s) const {
    return pass.reverse ? scan.length[position] - 1 - s : s;
  }
  // Does the row start from zero at this step, whatever came before?
  FASTRNN_INLINE bool resets(int64_t position, int64_t s) const {
    if (!scan.reset) return false;
    const int64_t t = pass.reverse ? time(position, s) + 1 : s;
    if (pass.reverse && s == 0) return false;  // past the row's end
    return scan.reset[t * scan.reset_t + scan.row[position] * scan.reset_b] != 0;
  }
  // The row of state k (0: h, in y) before the step; `zeros` where there is none.
  template <class T>
  FASTRNN_INLINE const T* previous(int k, int64_t position, int64_t s, const T* zeros) const {
    if (resets(position, s)) return zeros;
    const int64_t b = scan.row[position];
    if (s == 0) {
      const T* given = state_at<T>(pass.initial, k, b);
      return given ? given : zeros;
    }
    return row_at<T>(k == 0 ? pass.y : pass.states[k], time(position, s - 1), b);
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

// A member's part of n things, as even as possible.
FASTRNN_INLINE int64_t part(int64_t n, int member, int members) { return n * member / members; }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
