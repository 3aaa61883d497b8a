// The maths policy whose functions are data: those of ONNX's operators RNN, GRU and LSTM, a clip of
// what goes into them, and one of a state. Kernels with it serve every cell of a family.
//
// What is kept of a function is its input, since not every slope follows from the value; a place
// may even have two inputs with one value and different slopes.
#pragma once

#include "gates.h"
#include "maths.h"

namespace fastrnn {

template <class V> FASTRNN_CELL_FUNCTION V absolute(V x) { return select(x < V(0), -x, x); }

// The branches below are on the function, which is one for all lanes, rows and steps.
template <class V> FASTRNN_CELL_CALL V value_of(const Activation& f, V x) {
  const V alpha(f.alpha), beta(f.beta), zero(0), one(1);
  switch (f.function) {
    case Function::kSigmoid: return sigmoid_of(x);
    case Function::kTanh: return tanh_of(x);
    case Function::kRelu: return select(x < zero, zero, x);
    case Function::kSoftsign: return x / (one + absolute(x));
    case Function::kSoftplus: return select(x < zero, zero, x) + log1p_of(exp_of(-absolute(x)));
    case Function::kAffine: return fma(alpha, x, beta);
    case Function::kLeakyRelu: return select(x < zero, alpha * x, x);
    case Function::kThresholdedRelu: return select(x < alpha, zero, x);
    case Function::kScaledTanh: return alpha * tanh_of(beta * x);
    case Function::kHardSigmoid: {
      const V y = fma(alpha, x, beta);
      return select(y < zero, zero, select(y > one, one, y));
    }
    case Function::kElu: return select(x < zero, alpha * expm1_of(x), x);
  }
  return x;
}

template <class V> FASTRNN_CELL_CALL V slope_of(const Activation& f, V x) {
  const V alpha(f.alpha), beta(f.beta), zero(0), one(1);
  switch (f.function) {
    case Function::kSigmoid: {
      const V y = sigmoid_of(x);
      return y * (one - y);
    }
    case Function::kTanh: {
      const V y = tanh_of(x);
      return fma(-y, y, one);
    }
    case Function::kRelu: return select(x <= zero, zero, one);
    case Function::kSoftsign: {
      const V root = one / (one + absolute(x));
      return root * root;
    }
    case Function::kSoftplus: return sigmoid_of(x);
    case Function::kAffine: return alpha;
    case Function::kLeakyRelu: return select(x < zero, alpha, one);
    case Function::kThresholdedRelu: return select(x < alpha, zero, one);
    case Function::kScaledTanh: {
      const V y = tanh_of(beta * x);
      return alpha * beta * fma(-y, y, one);
    }
    case Function::kHardSigmoid: {
      const V y = fma(alpha, x, beta);
      return select(y <= zero, zero, select(y < one, alpha, zero));
    }
    case Function::kElu: return select(x < zero, alpha * (expm1_of(x) + one), one);
  }
  return one;
}

// A function that is made of lines is flat where its slope is 0; the slope of another may be
// rounded to 0.
FASTRNN_CELL_FUNCTION bool is_made_of_lines(Function f) {
  return f == Function::kRelu || f == Function::kAffine || f == Function::kLeakyRelu ||
         f == Function::kThresholdedRelu || f == Function::kHardSigmoid;
}

// What a comparison returns.
template <class V> using Mask = decltype(V() < V());

// A function at one point. A choice, not a product: where it is flat nothing passes, be it
// infinite.
template <class V> struct ChosenPoint {
  V y, slope;
  Mask<V> flat;

  FASTRNN_CELL_FUNCTION V gradient(V dy) const { return select(flat, V(0), dy * slope); }
  FASTRNN_CELL_FUNCTION V gradient(V dy, V to) const {
    return select(flat, to, fma(dy, slope, to));
  }
};

struct Chosen {
  const CellMaths* maths;

  FASTRNN_CELL_FUNCTION explicit Chosen(const CellMaths* m) : maths(m) {}

  template <class F, class V> FASTRNN_CELL_FUNCTION V value(F f, V x) const {
    return value_of(function(f), clipped(x));
  }
  template <class V> FASTRNN_CELL_FUNCTION V kept(V x, V) const { return x; }
  template <class F, class V> FASTRNN_CELL_FUNCTION ChosenPoint<V> from_kept(F f, V x) const {
    return from_input(f, x);
  }
  template <class F, class V> FASTRNN_CELL_FUNCTION ChosenPoint<V> from_input(F f, V x) const {
    const Activation& chosen = function(f);
    const V limit(maths->clip), inside = clipped(x), slope = slope_of(chosen, inside);
    Mask<V> flat = absolute(x) > limit;
    if (is_made_of_lines(chosen.function)) flat = flat | (absolute(slope) <= V(0));
    return {value_of(chosen, inside), slope, flat};
  }
  // A choice again: zeros in the place of peepholes would make NaN of an infinite state.
  template <class V> FASTRNN_CELL_FUNCTION V peephole(V p, V a, V to) const {
    return maths->peepholes ? fma(p, a, to) : to;
  }
  template <class V> FASTRNN_CELL_FUNCTION V state(V raw) const {
    if (!maths->clips_state) return raw;
    const V low(maths->low), high(maths->high);
    return select(raw < low, low, select(raw > high, high, raw));  // keeps NaN
  }
  // As torch.clamp has it: on a bound all passes, outside nothing, and of NaN nothing.
  template <class V> FASTRNN_CELL_FUNCTION V state_gradient(V raw, V d) const {
    if (!maths->clips_state) return d;
    const V low(maths->low), high(maths->high), none(0);
    return select(low <= raw, select(raw <= high, d, none), none);
  }

 private:
  FASTRNN_CELL_FUNCTION const Activation& function(Gate) const {
    return maths->of[CellMaths::kGate];
  }
  FASTRNN_CELL_FUNCTION const Activation& function(Candidate) const {
    return maths->of[CellMaths::kCandidate];
  }
  FASTRNN_CELL_FUNCTION const Activation& function(Output) const {
    return maths->of[CellMaths::kOutput];
  }
  template <class V> FASTRNN_CELL_FUNCTION V clipped(V x) const {
    const V limit(maths->clip);
    return select(x > limit, limit, select(x < -limit, -limit, x));  // keeps NaN
  }
};

}  // namespace fastrnn
