// What every cell header builds on: the fixed-size pack of values and the maths policies.
//
// The cell contract (see docs/architecture.md). A cell is a struct of constants and two functions,
// templates over a maths policy M and a value type V (a SIMD register in the CPU engine, a float in
// a CUDA thread, a dual number in a test):
//
//   kGates   the number of gates, in the order of the rows of the weights
//   kStates  the number of recurrent states; state 0 is h, which is also the output
//   kSaved   the number of values per unit that forward saves for backward, in addition to states
//   kSplit   a bit mask of the gates whose input part x and recurrent part r stay apart. For any
//            other gate x is the sum of both parts; forward does not read r of such a gate, and
//            backward does not write dr.
//
//   forward (m, x, r, s, save)
//            s is the states before the step on entry, and after it on return.
//   backward(m, save, s_prev, s, ds, dx, dr)
//            ds is the gradient of the states after the step on entry, and of those before it on
//            return, without what reaches h through R: the driver adds that.
//
// C++17 that nvcc takes too; branch-free; every fused product is an explicit fma.
#pragma once

#if defined(__CUDACC__)
#define FASTRNN_CELL_FUNCTION __host__ __device__ __forceinline__
#else
#define FASTRNN_CELL_FUNCTION inline __attribute__((always_inline))
#endif

namespace fastrnn {

template <class V, int N> struct Pack {
  V v[N];
  FASTRNN_CELL_FUNCTION V& operator[](int i) { return v[i]; }
  FASTRNN_CELL_FUNCTION const V& operator[](int i) const { return v[i]; }
};
template <class V> struct Pack<V, 0> {
  // Never read: a loop over no elements still has to compile.
  V v[1];
  FASTRNN_CELL_FUNCTION V& operator[](int i) { return v[i]; }
  FASTRNN_CELL_FUNCTION const V& operator[](int i) const { return v[i]; }
};

// The functions as they are. Derivatives are given in terms of the function's value.
struct Exact {
  template <class V> FASTRNN_CELL_FUNCTION V sigmoid(V x) const { return sigmoid_of(x); }
  template <class V> FASTRNN_CELL_FUNCTION V tanh(V x) const { return tanh_of(x); }
  template <class V> FASTRNN_CELL_FUNCTION V relu(V x) const {
    return select(x < V(0), V(0), x);  // keeps NaN
  }
  template <class V> FASTRNN_CELL_FUNCTION V dsigmoid(V y) const { return y * (V(1) - y); }
  template <class V> FASTRNN_CELL_FUNCTION V dtanh(V y) const { return fma(-y, y, V(1)); }
  // A choice, not a product: where the unit is off nothing passes, be it infinite. 0 at the kink.
  template <class V> FASTRNN_CELL_FUNCTION V relu_gradient(V y, V dy) const {
    return select(y <= V(0), V(0), dy);
  }
};

// Every activation becomes a line through 0, so that long sequences do not saturate and can be
// compared at a tight tolerance. For tests.
struct Linear {
  double slope = 0.25;
  template <class V> FASTRNN_CELL_FUNCTION V line(V x) const { return V(slope) * x; }
  template <class V> FASTRNN_CELL_FUNCTION V sigmoid(V x) const { return line(x); }
  template <class V> FASTRNN_CELL_FUNCTION V tanh(V x) const { return line(x); }
  template <class V> FASTRNN_CELL_FUNCTION V relu(V x) const { return line(x); }
  template <class V> FASTRNN_CELL_FUNCTION V dsigmoid(V) const { return V(slope); }
  template <class V> FASTRNN_CELL_FUNCTION V dtanh(V) const { return V(slope); }
  template <class V> FASTRNN_CELL_FUNCTION V relu_gradient(V, V dy) const { return dy * V(slope); }
};

}  // namespace fastrnn
