// Arrays as the caller has them (View), their dimensions (Shape), and the geometry of strides.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <initializer_list>
#include <string>

namespace fastrnn {

constexpr int kMaxRank = 8;
constexpr int kHost = -1;

// Sizes of the dimensions of an array, held in place: shapes are made and compared on every call.
// A size is a number, or a symbol where a compiler asks for the shapes of any call
// (bindings/shapes.h).
template <class Size> class BasicShape {
 public:
  BasicShape() = default;
  BasicShape(std::initializer_list<Size> sizes) : BasicShape(sizes.begin(), sizes.end()) {}
  BasicShape(const Size* begin, const Size* end) {
    for (; begin != end && rank_ < kMaxRank; ++begin) sizes_[rank_++] = *begin;
  }
  const Size* begin() const { return sizes_; }
  const Size* end() const { return sizes_ + rank_; }
  int size() const { return rank_; }
  const Size& operator[](int i) const { return sizes_[i]; }
  void pop_back() { --rank_; }
  void push_back(const Size& size) { sizes_[rank_++] = size; }
  bool operator==(const BasicShape& other) const {
    return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
  }
  bool operator!=(const BasicShape& other) const { return !(*this == other); }

 private:
  int rank_ = 0;
  Size sizes_[kMaxRank];
};
using Shape = BasicShape<int64_t>;
std::string to_string(const Shape& shape);
int64_t elements_of(const Shape& shape);

// kind: NumPy's (f i u b c ...), or B for bfloat16.
struct ElementType {
  char kind;
  int64_t bytes;
};

// An array of the caller's. Strides are in bytes and may be anything.
struct View {
  char* data = nullptr;
  int64_t itemsize = 0;
  char kind = 0;  // as ElementType has it
  bool native = true;
  bool writeable = false;
  bool given = false;
  bool fresh = false;       // made for this call: right by construction, and apart from all else
  int device = kHost;       // the GPU that has it
  int rank = 0;             // beyond kMaxRank, shape and strides hold the first kMaxRank only
  int64_t shape[kMaxRank];  // as strides, of the dimensions that there are
  int64_t strides[kMaxRank];
};

// Of a new array of floats in C order, made for a call.
View fresh_view(void* data, ElementType type, const Shape& shape);
Shape shape_of(const View& view);
bool is_empty(const View& view);

// C order without gaps?
bool is_contiguous(const View& view);
// Whole elements at an aligned address, those of the last dimension neighbours: what kernels load
// and store by vectors.
bool has_contiguous_rows(const View& view);
// Does every element have an address of its own?
bool is_injective(const View& view);
// Do two arrays share memory? May say yes for arrays that interleave in more than one dimension.
bool overlap(const View& a, const View& b);

}  // namespace fastrnn
