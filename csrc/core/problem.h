// What is asked: arrays as the caller has them (View), the sizes of a layer (Spec) and of a call
// (Problem), and the shape of every array that belongs to them.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

namespace fastrnn {

struct KernelEntry;

constexpr int kMaxRank = 8;
constexpr int kHost = -1;

// An array of the caller's. Strides are in bytes and may be anything.
struct View {
  char* data = nullptr;
  int64_t itemsize = 0;
  char kind = 0;  // NumPy's: f i u b c ...; B: bfloat16
  bool native = true;
  bool writeable = false;
  bool given = false;
  bool fresh = false;  // made for this call: right by construction, and apart from all else
  int device = kHost;  // the GPU that has it
  int rank = 0;        // beyond kMaxRank, shape and strides hold the first kMaxRank only
  int64_t shape[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};
};

// Sizes of the dimensions of an array, held in place: shapes are made and compared on every call.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
  Shape(const int64_t* begin, const int64_t* end) {
    for (; begin != end && rank_ < kMaxRank; ++begin) sizes_[rank_++] = *begin;
  }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + rank_; }
  int size() const { return rank_; }
  int64_t operator[](int i) const { return sizes_[i]; }
  void pop_back() { --rank_; }
  bool operator==(const Shape& other) const {
    return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
  }
  bool operator!=(const Shape& other) const { return !(*this == other); }

 private:
  int rank_ = 0;
  int64_t sizes_[kMaxRank] = {};
};
std::string to_string(const Shape& shape);
// Of a new array of floats in C order, made for a call.
View fresh_view(void* data, int64_t itemsize, const Shape& shape);
Shape shape_of(const View& view);
std::string dtype_name(char kind, int64_t itemsize);  // "float32", "bfloat16"
std::string dtype_of(const View& view);               // also "int64 in foreign byte order"

// The sizes of a stack of layers.
struct Spec {
  std::string op;  // the cell's name; it opens every message
  int element_bytes;
  int64_t layers, directions, inputs, units;  // L D I H
  bool bias;
  int64_t gates, states, saved;  // of the cell
  char kind = 'f';               // of an element, as View has it

  // Of an element of the states beside h: at least a float.
  int64_t wide_bytes() const { return std::max(element_bytes, 4); }
  int64_t layer_inputs(int64_t layer) const { return layer == 0 ? inputs : directions * units; }
  int64_t params_per_pass() const { return bias ? 4 : 2; }
};

struct Parameter {
  std::string name;
  Shape shape;
};
// In torch's order: layer, direction, then w_ih w_hh b_ih b_hh.
std::vector<Parameter> parameters_of(const Spec& spec);

// The sizes of a call, and where T and B stand in the caller's arrays.
struct Problem {
  int64_t T = 0, B = 0;
  bool batched = true, batch_first = false;
  // 0: the tape holds all that backward needs. k: the states of every k-th step alone, from which
  // backward makes the rest anew.
  int64_t recompute = 0;

  // Steps whose states the tape holds.
  int64_t kept_steps() const { return recompute ? T / recompute + (T % recompute > 0) : T; }

  Shape sequence(int64_t width) const {  // (T, B, n), (B, T, n) or (T, n)
    if (!batched) return {T, width};
    return batch_first ? Shape{B, T, width} : Shape{T, B, width};
  }
};
Shape state_shape(const Spec& spec, const Problem& problem);

// The tape: y itself and these three, whose shapes depend on the problem alone.
struct TapeShapes {
  Shape inner;   // (L - 1, T, B, D * H): outputs of the layers below the last
  Shape states;  // (S - 1, L, D, T, B, H): the states beside h after each step
  Shape saved;   // (L, D, T, B, saved, H)
};
// With recompute, states is (S - 1, L, D, ceil(T / k), B, H), after scan steps k - 1, 2k - 1 ...
// and the last, and saved is empty.
TapeShapes tape_shapes(const Spec& spec, const Problem& problem);

}  // namespace fastrnn
