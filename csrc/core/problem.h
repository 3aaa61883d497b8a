// What is asked: arrays as the caller has them (View), the sizes of a layer (Spec) and of a call
// (Problem), and the shape of every array that belongs to them.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

namespace fastrnn {

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
  bool operator==(const BasicShape& other) const {
    return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
  }
  bool operator!=(const BasicShape& other) const { return !(*this == other); }

 private:
  int rank_ = 0;
  Size sizes_[kMaxRank] = {};
};
using Shape = BasicShape<int64_t>;
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

// n / k, rounded up.
inline int64_t ceil_div(int64_t n, int64_t k) { return n / k + (n % k > 0); }

// The sizes of a call, and where T and B stand in the caller's arrays.
template <class Size> struct BasicProblem {
  Size T = 0, B = 0;
  bool batched = true, batch_first = false;
  // 0: the tape holds all that backward needs. k: the states of every k-th step alone, from which
  // backward computes the rest again.
  int64_t recompute = 0;

  // Steps whose states the tape holds.
  Size kept_steps() const { return recompute ? ceil_div(T, recompute) : T; }

  BasicShape<Size> sequence(const Size& width) const {  // (T, B, n), (B, T, n) or (T, n)
    if (!batched) return {T, width};
    return batch_first ? BasicShape<Size>{B, T, width} : BasicShape<Size>{T, B, width};
  }
};
using Problem = BasicProblem<int64_t>;

// The shapes of what a call gives: y, each state, and the tape, which is y itself and three arrays
// whose shapes depend on the problem alone. H is that of the layers, as a Size.
template <class Size>
BasicShape<Size> y_shape(const Spec& spec, const Size& H, const BasicProblem<Size>& p) {
  return p.sequence(spec.directions * H);
}

template <class Size>
BasicShape<Size> state_shape(const Spec& spec, const Size& H, const BasicProblem<Size>& p) {
  const Size passes = spec.layers * spec.directions;
  return p.batched ? BasicShape<Size>{passes, p.B, H} : BasicShape<Size>{passes, H};
}

template <class Size> struct BasicTapeShapes {
  BasicShape<Size> inner;   // (L - 1, T, B, D * H): outputs of the layers below the last
  BasicShape<Size> states;  // (S - 1, L, D, T, B, H): the states beside h after each step
  BasicShape<Size> saved;   // (L, D, T, B, saved, H)
};
using TapeShapes = BasicTapeShapes<int64_t>;

// With recompute, states is (S - 1, L, D, ceil(T / k), B, H), after scan steps k - 1, 2k - 1 ...
// and the last, and saved is empty.
template <class Size>
BasicTapeShapes<Size> tape_shapes(const Spec& spec, const Size& H, const BasicProblem<Size>& p) {
  const Size L = spec.layers, D = spec.directions, saved_steps = p.recompute ? Size(0) : p.T;
  return {{spec.layers - 1, p.T, p.B, D * H},
          {spec.states - 1, L, D, p.kept_steps(), p.B, H},
          {L, D, saved_steps, p.B, spec.saved, H}};
}

inline Shape y_shape(const Spec& spec, const Problem& p) { return y_shape(spec, spec.units, p); }
inline Shape state_shape(const Spec& spec, const Problem& p) {
  return state_shape(spec, spec.units, p);
}
inline TapeShapes tape_shapes(const Spec& spec, const Problem& p) {
  return tape_shapes(spec, spec.units, p);
}

}  // namespace fastrnn
