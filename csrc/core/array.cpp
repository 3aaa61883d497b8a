#include "array.h"

#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

namespace fastrnn {

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

int64_t elements_of(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

View fresh_view(void* data, ElementType type, const Shape& shape) {
  View view;
  view.data = static_cast<char*>(data);
  view.itemsize = type.bytes;
  view.kind = type.kind;
  view.given = view.writeable = view.fresh = true;
  view.rank = shape.size();
  int64_t stride = type.bytes;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.shape[i] = shape[i];
    view.strides[i] = stride;
    stride *= view.shape[i];
  }
  return view;
}

Shape shape_of(const View& view) {
  return Shape(view.shape, view.shape + std::min(view.rank, kMaxRank));
}

bool is_empty(const View& view) {
  for (int i = 0; i < view.rank; ++i)
    if (view.shape[i] == 0) return true;
  return false;
}

bool is_contiguous(const View& view) {
  if (is_empty(view)) return true;
  int64_t expected = view.itemsize;
  for (int i = view.rank - 1; i >= 0; --i) {
    if (view.shape[i] > 1 && view.strides[i] != expected) return false;
    expected *= view.shape[i];
  }
  return true;
}

bool has_contiguous_rows(const View& view) {
  if (is_empty(view)) return true;
  if (reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(view.itemsize)) return false;
  for (int i = 0; i < view.rank; ++i)
    if (view.shape[i] > 1 && (i == view.rank - 1 ? view.strides[i] != view.itemsize
                                                 : view.strides[i] % view.itemsize != 0))
      return false;
  return true;
}

// Sorted by stride, each dimension must step over all that the smaller ones span.
bool is_injective(const View& view) {
  if (is_empty(view)) return true;
  std::vector<std::pair<int64_t, int64_t>> dims;
  for (int i = 0; i < view.rank; ++i)
    if (view.shape[i] > 1) dims.emplace_back(std::abs(view.strides[i]), view.shape[i]);
  std::sort(dims.begin(), dims.end());
  int64_t span = view.itemsize;
  for (const auto& [stride, count] : dims) {
    if (stride < span) return false;
    span += stride * (count - 1);
  }
  return true;
}

namespace {

// The bytes from the lowest to past the highest element.
struct ByteRange {
  const char *low, *high;
};

ByteRange byte_range(const View& view) {
  ByteRange range{view.data, view.data + view.itemsize};
  for (int i = 0; i < view.rank; ++i) {
    const int64_t reach = view.strides[i] * (view.shape[i] - 1);
    (reach < 0 ? range.low : range.high) += reach;
  }
  return range;
}

}  // namespace

// Arrays whose ranges interleave (two halves of the rows of one buffer) are apart if, modulo the
// common divisor of all outer strides, their inner rows are.
bool overlap(const View& a, const View& b) {
  if (is_empty(a) || is_empty(b)) return false;
  const ByteRange range_a = byte_range(a), range_b = byte_range(b);
  if (range_a.high <= range_b.low || range_b.high <= range_a.low) return false;
  int64_t period = 0;
  int64_t low[2] = {0, 0}, width[2] = {0, 0};
  const View* views[2] = {&a, &b};
  for (int v = 0; v < 2; ++v) {
    const View& view = *views[v];
    width[v] = view.itemsize;
    for (int i = 0; i < view.rank; ++i) {
      if (view.shape[i] == 1) continue;
      if (i == view.rank - 1) {
        const int64_t reach = view.strides[i] * (view.shape[i] - 1);
        low[v] = std::min<int64_t>(0, reach);
        width[v] += std::abs(reach);
      } else {
        period = std::gcd(period, view.strides[i]);
      }
    }
  }
  if (period == 0) return true;
  const int64_t gap = ((b.data + low[1]) - (a.data + low[0])) % period;
  const int64_t offset = gap < 0 ? gap + period : gap;
  return !(offset >= width[0] && offset + width[1] <= period);
}

}  // namespace fastrnn
