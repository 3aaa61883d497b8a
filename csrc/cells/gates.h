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
//   kUnit    the number of parameters that each unit has for itself, such as peepholes
//
//   forward (m, x, r, s, save)
//            s is the states before the step on entry, and after it on return. The unit's
//            parameters follow the gates in x.
//   backward(m, save, s_prev, s, ds, dx, dr)
//            ds is the gradient of the states after the step on entry, and of those before it on
//            return, without what reaches h through R: the driver adds that. The unit's parameters
//            follow the gates in dx on entry, and on return their gradients of this step.
//
// A step of two phases has a second product, of a vector v that the first phase makes. Such a cell
// has four functions in the place of the two, and says beside the above:
//
//   kSecond      a bit mask of the gates that are multiplied by v, and not by h: the last ones
//   kFirstSaved  of the saved values, how many come from the first phase: those are first
//   kProjects    true where v is multiplied by a matrix that is no gate's, to give h' itself, of
//                any width (projected.h). Then the first phase has all else to do: there are no
//                second() and second_backward(), and s[0], s_prev[0] and ds[0] are not given.
//
//   first (m, x, r, s, save, v)
//            as forward, but for h and for the gates of kSecond; gives v.
//   second(m, x, h, save)
//            the gates of kSecond alone, and what first() has saved. h is that before the step on
//            entry, and after it on return.
//   second_backward(m, save, h, dh, dx)
//            gives dx of the gates of kSecond. h is that before the step; dh is the gradient of h
//            after it on entry, and on return that of what h was made of (state_gradient).
//   first_backward(m, save, s_prev, s, ds, dx, dr, v)
//            as backward, for the other gates; ds[0] is what second_backward has left. v is its
//            gradient on entry, of which what flows on to h goes into ds[0], and v itself again on
//            return.
//
// The parameters of a unit are the first phase's.
//
// A policy says what the functions of a cell are, which are named by their places:
//
//   value     (F, x)        the function F of x
//   kept      (x, y)        what of a function is kept for backward, of its input x and value y
//   from_kept (F, kept)     its value and its gradient (Point), from that ...
//   from_input(F, x)        ... or from its input
//   gradient  (F, y, dy)    the gradient of its input from that of its value y, for a cell that
//                           keeps nothing else
//   peephole  (p, a, to)    to + p a, where p is a peephole, and to where the cell has none
//   state     (raw)         a state out of what the step has made: of LSTMs c, of the others h
//   state_gradient(raw, d)  the gradient of raw from that of the state
//
// C++17 that nvcc takes too; branch-free in values; every fused product is an explicit fma.
#pragma once

// FASTRNN_CELL_CALL: a function that is long, and is called where it stands often.
#if defined(__CUDACC__)
#define FASTRNN_CELL_FUNCTION __host__ __device__ __forceinline__
#define FASTRNN_CELL_CALL __host__ __device__ __noinline__
#else
#define FASTRNN_CELL_FUNCTION inline __attribute__((always_inline))
#define FASTRNN_CELL_CALL __attribute__((noinline))
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

template <class> struct Found {
  using Type = void;
};

// What a cell says of a second product, or what holds where it says nothing.
template <class Cell, class = void> struct Phases {
  static constexpr int kCount = 1, kFirstSaved = Cell::kSaved;
  static constexpr unsigned kSecond = 0;
  static constexpr bool kProjects = false;
};
template <class Cell> struct Phases<Cell, typename Found<decltype(Cell::kSecond)>::Type> {
  static constexpr int kCount = 2, kFirstSaved = Cell::kFirstSaved;
  static constexpr unsigned kSecond = Cell::kSecond;
  static constexpr bool kProjects = Cell::kProjects;
  static_assert(kProjects == (kSecond == 0), "the second product serves gates, or projects");
  static_assert((Cell::kSecond & Cell::kSplit) == 0, "v's gates are not split");
};

// The functions of a cell by their places, and by what they are in a cell that has no choice. A
// place is derived from its usual function.
struct Sigmoid {};
struct Tanh {};
struct Relu {};
struct Gate : Sigmoid {};
struct Candidate : Tanh {};
struct Output : Tanh {};

// A function at one point. Its gradient is that of its input, from that of its value; or is added.
template <class V> struct Point {
  V y, slope;

  FASTRNN_CELL_FUNCTION V gradient(V dy) const { return dy * slope; }
  FASTRNN_CELL_FUNCTION V gradient(V dy, V to) const { return fma(dy, slope, to); }
};

// Functions that are chosen when a layer is made; see chosen.h.
struct CellMaths;

// The usual functions. What is kept is the value, from which each slope follows.
struct Exact {
  Exact() = default;
  FASTRNN_CELL_FUNCTION explicit Exact(const CellMaths*) {}

  template <class V> FASTRNN_CELL_FUNCTION V value(Sigmoid, V x) const { return sigmoid_of(x); }
  template <class V> FASTRNN_CELL_FUNCTION V value(Tanh, V x) const { return tanh_of(x); }
  template <class V> FASTRNN_CELL_FUNCTION V value(Relu, V x) const {
    return select(x < V(0), V(0), x);  // keeps NaN
  }
  template <class V> FASTRNN_CELL_FUNCTION V slope(Sigmoid, V y) const { return y * (V(1) - y); }
  template <class V> FASTRNN_CELL_FUNCTION V slope(Tanh, V y) const { return fma(-y, y, V(1)); }

  template <class V> FASTRNN_CELL_FUNCTION V kept(V, V y) const { return y; }
  template <class F, class V> FASTRNN_CELL_FUNCTION Point<V> from_kept(F f, V y) const {
    return {y, slope(f, y)};
  }
  template <class F, class V> FASTRNN_CELL_FUNCTION Point<V> from_input(F f, V x) const {
    return from_kept(f, value(f, x));
  }
  template <class F, class V> FASTRNN_CELL_FUNCTION V gradient(F f, V y, V dy) const {
    return dy * slope(f, y);
  }
  // A choice, not a product: where the unit is off nothing passes, be it infinite. 0 at the kink.
  template <class V> FASTRNN_CELL_FUNCTION V gradient(Relu, V y, V dy) const {
    return select(y <= V(0), V(0), dy);
  }
  template <class V> FASTRNN_CELL_FUNCTION V peephole(V p, V a, V to) const {
    return fma(p, a, to);
  }
  template <class V> FASTRNN_CELL_FUNCTION V state(V raw) const { return raw; }
  template <class V> FASTRNN_CELL_FUNCTION V state_gradient(V, V d) const { return d; }
};

// Every function becomes a line through 0, so that long sequences do not saturate and can be
// compared at a tight tolerance. For tests.
struct Linear {
  double line = 0.25;

  Linear() = default;
  explicit Linear(double l) : line(l) {}
  explicit Linear(const CellMaths*) {}

  template <class F, class V> FASTRNN_CELL_FUNCTION V value(F, V x) const { return V(line) * x; }
  template <class V> FASTRNN_CELL_FUNCTION V kept(V, V y) const { return y; }
  template <class F, class V> FASTRNN_CELL_FUNCTION Point<V> from_kept(F, V y) const {
    return {y, V(line)};
  }
  template <class F, class V> FASTRNN_CELL_FUNCTION Point<V> from_input(F f, V x) const {
    return {value(f, x), V(line)};
  }
  template <class F, class V> FASTRNN_CELL_FUNCTION V gradient(F, V, V dy) const {
    return dy * V(line);
  }
  template <class V> FASTRNN_CELL_FUNCTION V peephole(V p, V a, V to) const {
    return fma(p, a, to);
  }
  template <class V> FASTRNN_CELL_FUNCTION V state(V raw) const { return raw; }
  template <class V> FASTRNN_CELL_FUNCTION V state_gradient(V, V d) const { return d; }
};

}  // namespace fastrnn
