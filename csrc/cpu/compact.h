// The caller's arrays as the kernels can read them.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "../core/problem.h"
#include "kernel_table.h"
#include "memory.h"

namespace fastrnn {

// An array whose strides are whole elements at an aligned address: the caller's own where that
// holds, a contiguous copy where it does not (a field of a packed record, say). With `rows`, the
// last dimension is contiguous as well, as the kernels need it of everything they load by vectors.
class Strided {
 public:
  Strided() = default;  // null: an array that is not given
  Strided(const Spec& spec, const View& view, bool rows = false) {
    data_ = view.data;
    const int64_t element = view.itemsize;
    bool usable = reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(element) == 0;
    int64_t elements = 1;
    for (int i = 0; i < view.rank; ++i) {
      elements *= view.shape[i];
      if (view.shape[i] <= 1) continue;
      usable &= view.strides[i] % element == 0;
      if (rows && i == view.rank - 1) usable &= view.strides[i] == element;
    }
    if (usable || elements == 0) {
      for (int i = 0; i < view.rank; ++i) strides_[i] = view.strides[i] / element;
      return;
    }
    copy_ = Block(elements * element, spec.op, "copy of a strided array");
    data_ = copy_.data();
    for (int i = view.rank - 1; i >= 0; --i)
      strides_[i] = i == view.rank - 1 ? 1 : strides_[i + 1] * view.shape[i + 1];
    char* to = copy_.data();
    copy(view, 0, view.data, &to);
  }

  char* data() const { return data_; }
  int64_t stride(int dim) const { return strides_[dim]; }  // in elements
  StridedMatrix matrix() const { return {data_, strides_[0], strides_[1]}; }
  StridedVector vector() const { return {data_, strides_[0]}; }

 private:
  static void copy(const View& view, int dim, const char* from, char** to) {
    // (The compiler sees that no rank is above kMaxRank, and warns of nothing.)
    if (dim >= std::min(view.rank, kMaxRank)) {
      std::memcpy(*to, from, static_cast<size_t>(view.itemsize));
      *to += view.itemsize;
      return;
    }
    for (int64_t i = 0; i < view.shape[dim]; ++i, from += view.strides[dim])
      copy(view, dim + 1, from, to);
  }

  Block copy_;
  char* data_ = nullptr;
  int64_t strides_[kMaxRank];  // of the dimensions that there are
};

}  // namespace fastrnn
