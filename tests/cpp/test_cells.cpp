// Each cell's hand-written backward against the derivative of its own forward, for every cell of
// the registry, and for every function that it may choose: forward runs on dual numbers, and for
// any direction v of the inputs and any gradient g of the new states, <g, J v> (from forward) must
// equal <J^T g, v> (from backward) to rounding. No step size, no finite differences.

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "cell_headers.h"
#include "cells/chosen.h"
#include "check.h"

namespace dual {

// a + b * epsilon with epsilon^2 = 0: the value and its derivative along one direction.
struct Dual {
  double value = 0, slope = 0;

  Dual() = default;
  explicit Dual(double v, double s = 0) : value(v), slope(s) {}
};

inline Dual operator+(Dual a, Dual b) { return Dual(a.value + b.value, a.slope + b.slope); }
inline Dual operator-(Dual a, Dual b) { return Dual(a.value - b.value, a.slope - b.slope); }
inline Dual operator-(Dual a) { return Dual(-a.value, -a.slope); }
inline Dual operator*(Dual a, Dual b) {
  return Dual(a.value * b.value, a.slope * b.value + a.value * b.slope);
}
inline Dual operator/(Dual a, Dual b) {
  const double q = a.value / b.value;
  return Dual(q, (a.slope - q * b.slope) / b.value);
}
inline Dual fma(Dual a, Dual b, Dual c) { return a * b + c; }

inline bool operator<(Dual a, Dual b) { return a.value < b.value; }
inline bool operator>(Dual a, Dual b) { return a.value > b.value; }
inline bool operator<=(Dual a, Dual b) { return a.value <= b.value; }
inline Dual select(bool mask, Dual a, Dual b) { return mask ? a : b; }

// The slopes by another formula than the policies', which have them from the function's value.
inline Dual exp_of(Dual x) { return Dual(std::exp(x.value), std::exp(x.value) * x.slope); }
inline Dual sigmoid_of(Dual x) {
  const double c = 2 * std::cosh(x.value / 2);
  return Dual(1 / (1 + std::exp(-x.value)), x.slope / (c * c));
}
inline Dual expm1_of(Dual x) { return Dual(std::expm1(x.value), std::exp(x.value) * x.slope); }
inline Dual log1p_of(Dual x) { return Dual(std::log1p(x.value), x.slope / (1 + x.value)); }
inline Dual tanh_of(Dual x) {
  const double c = std::cosh(x.value);
  return Dual(std::tanh(x.value), x.slope / (c * c));
}

}  // namespace dual

namespace {

using dual::Dual;
using fastrnn::Pack;

const double kNaN = std::numeric_limits<double>::quiet_NaN();
// A gradient that backward must leave alone.
const double kUntouched = 12345.678;
// Some tens of roundings, relative to the sum of the magnitudes that are added up.
const double kTolerance = 64 * std::numeric_limits<double>::epsilon();

class Random {
 public:
  double operator()() {  // uniform in (-2, 2)
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return 4 * (double(state_ >> 11) * 0x1p-53 - 0.5);
  }

 private:
  uint64_t state_ = 1;
};

template <class Cell> constexpr bool is_split(int gate) { return Cell::kSplit >> gate & 1u; }

// One number for each input of a cell: a point, a direction or a gradient. x has the parameters of
// the unit, too; r counts only for the gates of kSplit.
template <class Cell> struct Inputs {
  static constexpr int kX = Cell::kGates + Cell::kUnit, kR = kX + Cell::kGates;
  static constexpr int kCount = kR + Cell::kStates;
  double all[kCount] = {};
  double& x(int k) { return all[k]; }
  double& r(int gate) { return all[kX + gate]; }
  double& s(int state) { return all[kR + state]; }

  static bool exists(int k) { return k < kX || k >= kR || is_split<Cell>(k - kX); }
  static const char* kind(int k) { return k < kX ? "x" : k < kR ? "r" : "s"; }
  static int index(int k) { return k < kX ? k : k < kR ? k - kX : k - kR; }
};

// What a step leaves, as duals.
template <class Cell> struct Step {
  Pack<Dual, Cell::kStates> s_prev, s;
  Pack<Dual, Cell::kSaved> save;
};

// The recurrent part of a gate outside kSplit is NaN: reading it would show everywhere.
template <class Cell, class M> Step<Cell> forward(const M& m, Inputs<Cell> at, Inputs<Cell> along) {
  Pack<Dual, Inputs<Cell>::kX> x, r;
  Step<Cell> step;
  for (int k = 0; k < Inputs<Cell>::kX; ++k) x[k] = Dual(at.x(k), along.x(k));
  for (int k = 0; k < Cell::kGates; ++k) {
    r[k] = is_split<Cell>(k) ? Dual(at.r(k), along.r(k)) : Dual(kNaN, kNaN);
  }
  for (int k = 0; k < Cell::kStates; ++k) step.s_prev[k] = Dual(at.s(k), along.s(k));
  step.s = step.s_prev;
  for (int k = 0; k < Cell::kSaved; ++k) step.save[k] = Dual(kNaN, kNaN);
  Cell::forward(m, x, r, step.s, step.save);
  return step;
}

template <class Cell, class M> Inputs<Cell> backward(const char* name, const M& m, Step<Cell> step,
                                                     Inputs<Cell> at, const double* gradient) {
  const auto constant = [](auto& pack, int count) {
    for (int k = 0; k < count; ++k) pack[k].slope = 0;
  };
  constant(step.s_prev, Cell::kStates);
  constant(step.s, Cell::kStates);
  constant(step.save, Cell::kSaved);
  Pack<Dual, Cell::kStates> ds;
  Pack<Dual, Inputs<Cell>::kX> dx, dr;
  for (int k = 0; k < Cell::kStates; ++k) ds[k] = Dual(gradient[k]);
  for (int k = 0; k < Cell::kGates; ++k) {
    dx[k] = Dual(kNaN);
    dr[k] = Dual(is_split<Cell>(k) ? kNaN : kUntouched);
  }
  for (int k = Cell::kGates; k < Inputs<Cell>::kX; ++k) dx[k] = Dual(at.x(k));
  Cell::backward(m, step.save, step.s_prev, step.s, ds, dx, dr);
  Inputs<Cell> result;
  for (int k = 0; k < Inputs<Cell>::kX; ++k) result.x(k) = dx[k].value;
  for (int k = 0; k < Cell::kGates; ++k) {
    if (is_split<Cell>(k)) {
      result.r(k) = dr[k].value;
    } else {
      EXPECT(dr[k].value == kUntouched, "%s: dr[%d] written, though not in kSplit", name, k);
    }
  }
  for (int k = 0; k < Cell::kStates; ++k) result.s(k) = ds[k].value;
  return result;
}

// <g, J v> against <J^T g, v>; `what` and `index` name the direction v.
template <class Cell> void expect_adjoint(const char* name, const Step<Cell>& step,
                                          const double* gradient, Inputs<Cell> along,
                                          Inputs<Cell> backward, const char* what, int index,
                                          double floor) {
  double from_forward = 0, from_backward = 0, scale = floor;
  const auto add = [&scale](double& sum, double term) {
    sum += term;
    scale += std::fabs(term);
  };
  for (int k = 0; k < Cell::kStates; ++k) add(from_forward, gradient[k] * step.s[k].slope);
  for (int k = 0; k < Inputs<Cell>::kCount; ++k) add(from_backward, backward.all[k] * along.all[k]);
  EXPECT(std::fabs(from_forward - from_backward) <= kTolerance * scale,
         "%s: along %s %d: %.17g by forward, %.17g by backward", name, what, index, from_forward,
         from_backward);
}

// floor: what roundings are relative to where nothing larger is added up.
template <class Cell, class M> void test_cell(const char* name, const M& m, double floor = 0) {
  Random random;
  for (int trial = 0; trial < 200; ++trial) {
    Inputs<Cell> at, direction;
    double gradient[Cell::kStates];
    for (int k = 0; k < Inputs<Cell>::kCount; ++k) {
      at.all[k] = random();
      direction.all[k] = Inputs<Cell>::exists(k) ? random() : 0;
    }
    for (double& g : gradient) g = random();

    const Step<Cell> step = forward<Cell>(m, at, direction);
    for (int k = 0; k < Cell::kStates; ++k)
      EXPECT(std::isfinite(step.s[k].value) && std::isfinite(step.s[k].slope),
             "%s: state %d reads r of a gate outside kSplit, or a saved value", name, k);
    for (int k = 0; k < Cell::kSaved; ++k)
      EXPECT(std::isfinite(step.save[k].value), "%s: saved value %d not written, or from r", name,
             k);

    const Inputs<Cell> result = backward<Cell>(name, m, step, at, gradient);
    expect_adjoint<Cell>(name, step, gradient, direction, result, "random direction", trial, floor);
    for (int k = 0; k < Inputs<Cell>::kCount; ++k) {
      if (!Inputs<Cell>::exists(k)) continue;
      Inputs<Cell> axis;
      axis.all[k] = 1;
      expect_adjoint<Cell>(name, forward<Cell>(m, at, axis), gradient, axis, result,
                           Inputs<Cell>::kind(k), Inputs<Cell>::index(k), floor);
    }
  }
}

// A cell of two phases, whose second product is with the matrix 1: its gates, or h, get v added.
namespace two_phases {

template <class Cell> constexpr bool is_second(int gate) { return Cell::kSecond >> gate & 1u; }

// What a step leaves.
template <class Cell> struct Left {
  Pack<Dual, Inputs<Cell>::kX> x;
  Pack<Dual, Cell::kStates> s;
  Pack<Dual, Cell::kSaved> save;
  Dual v;
};

template <class Cell, class M> Left<Cell> take(const M& m, Inputs<Cell> at, Inputs<Cell> along) {
  Left<Cell> p;
  Pack<Dual, Inputs<Cell>::kX> first;
  for (int k = 0; k < Inputs<Cell>::kX; ++k) {
    p.x[k] = Dual(at.x(k), along.x(k));
    first[k] = is_second<Cell>(k) ? Dual(kNaN, kNaN) : p.x[k];
  }
  for (int k = 0; k < Cell::kStates; ++k) p.s[k] = Dual(at.s(k), along.s(k));
  for (int k = 0; k < Cell::kSaved; ++k) p.save[k] = Dual(kNaN, kNaN);
  const Dual h = p.s[0];
  if constexpr (Cell::kProjects) p.s[0] = Dual(kNaN, kNaN);
  Cell::first(m, first, first, p.s, p.save, p.v);
  if constexpr (Cell::kProjects) {
    p.s[0] = p.v + h;  // R is 1, and a term that shows whether h reaches further
  } else {
    for (int k = 0; k < Cell::kGates; ++k)
      if (is_second<Cell>(k)) p.x[k] = p.x[k] + p.v;
    p.s[0] = h;
    Cell::second(m, p.x, p.s[0], p.save);
  }
  return p;
}

template <class Cell, class M>
Inputs<Cell> go_back(const M& m, Left<Cell> p, Inputs<Cell> at, const double* gradient) {
  Pack<Dual, Cell::kStates> before, ds;
  for (int k = 0; k < Cell::kSaved; ++k) p.save[k].slope = 0;
  for (int k = 0; k < Cell::kStates; ++k) {
    before[k] = Dual(at.s(k));
    p.s[k].slope = 0;
    ds[k] = Dual(gradient[k]);
  }
  Pack<Dual, Inputs<Cell>::kX> dx, dr;
  for (int k = 0; k < Cell::kGates; ++k) dx[k] = dr[k] = Dual(kUntouched);
  for (int k = Cell::kGates; k < Inputs<Cell>::kX; ++k) dx[k] = Dual(at.x(k));
  Dual v(0);  // its gradient
  if constexpr (Cell::kProjects) {
    v = ds[0];
    before[0] = p.s[0] = ds[0] = Dual(kNaN);
  } else {
    Cell::second_backward(m, p.save, before[0], ds[0], dx);
    for (int k = 0; k < Cell::kGates; ++k)
      if (is_second<Cell>(k)) v = v + dx[k];
  }
  Cell::first_backward(m, p.save, before, p.s, ds, dx, dr, v);
  EXPECT(std::fabs(v.value - p.v.value) <= kTolerance, "v is %.17g again, was %.17g", v.value,
         p.v.value);
  Inputs<Cell> result;
  for (int k = 0; k < Inputs<Cell>::kX; ++k) result.x(k) = dx[k].value;
  for (int k = 0; k < Cell::kStates; ++k)
    result.s(k) = k == 0 && Cell::kProjects ? gradient[0] : ds[k].value;
  return result;
}

template <class Cell, class M> void test_cell(const char* name, const M& m, double floor = 0) {
  Random random;
  for (int trial = 0; trial < 200; ++trial) {
    Inputs<Cell> at, direction;
    double gradient[Cell::kStates];
    for (int k = 0; k < Inputs<Cell>::kCount; ++k) {
      at.all[k] = random();
      direction.all[k] = Inputs<Cell>::exists(k) ? random() : 0;
    }
    for (double& g : gradient) g = random();
    const Left<Cell> point = take<Cell>(m, at, direction);
    const Inputs<Cell> result = go_back<Cell>(m, point, at, gradient);
    const auto step_of = [&](const Left<Cell>& p) {
      Step<Cell> step;
      step.s = p.s;
      return step;
    };
    expect_adjoint<Cell>(name, step_of(point), gradient, direction, result, "random direction",
                         trial, floor);
    for (int k = 0; k < Inputs<Cell>::kCount; ++k) {
      if (!Inputs<Cell>::exists(k)) continue;
      Inputs<Cell> axis;
      axis.all[k] = 1;
      expect_adjoint<Cell>(name, step_of(take<Cell>(m, at, axis)), gradient, axis, result,
                           Inputs<Cell>::kind(k), Inputs<Cell>::index(k), floor);
    }
  }
}

}  // namespace two_phases

// Every function in every place, with and without clips of their inputs and of a state, which some
// reach.
template <class Cell, class Test> void test_chosen(const char* name, Test test) {
  using namespace fastrnn;
  const int functions = static_cast<int>(Function::kElu) + 1;
  for (int i = 0; i < functions; ++i)
    for (const double clip : {double(INFINITY), 0.75}) {
      const bool clips = clip < 1;
      const auto chosen = [&](int k) {
        return Activation{Function((i + 3 * k) % functions), 0.3 + 0.4 * k, 0.6 - 0.2 * k};
      };
      const CellMaths maths{{chosen(0), chosen(1), chosen(2)}, clip, true, clips, -0.5, 0.6};
      const std::string of = name + (" function " + std::to_string(i)) + (clips ? " clip" : "");
      // States may be large, and the slope 1 - tanh(c)^2 be all rounding.
      test(of.c_str(), Chosen(&maths), 1);
    }
}

// A function by libm, as ONNX defines it.
double by_libm(const fastrnn::Activation& f, double x) {
  using fastrnn::Function;
  switch (f.function) {
    case Function::kSigmoid: return 1 / (1 + std::exp(-x));
    case Function::kTanh: return std::tanh(x);
    case Function::kRelu: return std::fmax(x, 0);
    case Function::kSoftsign: return x / (1 + std::fabs(x));
    case Function::kSoftplus: return std::log(1 + std::exp(x));
    case Function::kAffine: return f.alpha * x + f.beta;
    case Function::kLeakyRelu: return x >= 0 ? x : f.alpha * x;
    case Function::kThresholdedRelu: return x >= f.alpha ? x : 0;
    case Function::kScaledTanh: return f.alpha * std::tanh(f.beta * x);
    case Function::kHardSigmoid: return std::fmin(std::fmax(f.alpha * x + f.beta, 0), 1);
    case Function::kElu: return x >= 0 ? x : f.alpha * (std::exp(x) - 1);
  }
  return kNaN;
}

void test_functions() {
  using namespace fastrnn;
  for (int i = 0; i <= static_cast<int>(Function::kElu); ++i)
    for (const double x : {-30.0, -1.5, -0.5, 0.0, 0.5, 0.75, 3.0, 30.0}) {
      const Activation f{Function(i), 0.75, 0.25};
      const double wanted = by_libm(f, x), got = value_of(f, Dual(x)).value;
      EXPECT(std::fabs(got - wanted) <= 1e-15 + 1e-13 * std::fabs(wanted),
             "function %d of %g: %.17g, not %.17g", i, x, got, wanted);
      EXPECT(std::isnan(value_of(f, Dual(kNaN)).value), "function %d drops NaN", i);
    }
}

}  // namespace

int main() {
  using namespace fastrnn;
  int cells = 0;
#define FASTRNN_TWO_PHASES(name, Struct, header)               \
  two_phases::test_cell<Struct>(#name " Exact", Exact());      \
  two_phases::test_cell<Struct>(#name " Linear", Linear());    \
  two_phases::test_cell<Struct>(#name " Linear", Linear(0.7)); \
  ++cells;
#define FASTRNN_PROJECTED(name, Struct, header) FASTRNN_TWO_PHASES(name, Struct, header)
#define FASTRNN_CHOSEN_TWO_PHASES(name, Struct, header)           \
  two_phases::test_cell<Struct>(#name " Linear", Linear(0.7), 1); \
  test_chosen<Struct>(#name, [](auto... of) { two_phases::test_cell<Struct>(of...); });
#define FASTRNN_CHOSEN_PROJECTED(name, Struct, header) \
  FASTRNN_CHOSEN_TWO_PHASES(name, Struct, header)
  test_functions();
#define FASTRNN_CELL(name, Struct, header)         \
  test_cell<Struct>(#name " Exact", Exact());      \
  test_cell<Struct>(#name " Linear", Linear());    \
  test_cell<Struct>(#name " Linear", Linear(0.7)); \
  ++cells;
#define FASTRNN_CHOSEN_CELL(name, Struct, header)     \
  test_cell<Struct>(#name " Exact", Exact(), 1);      \
  test_cell<Struct>(#name " Linear", Linear(0.7), 1); \
  test_chosen<Struct>(#name, [](auto... of) { test_cell<Struct>(of...); });
#include "cells/registry.h"
#undef FASTRNN_CELL
#undef FASTRNN_TWO_PHASES
#undef FASTRNN_PROJECTED
#undef FASTRNN_CHOSEN_CELL
#undef FASTRNN_CHOSEN_TWO_PHASES
#undef FASTRNN_CHOSEN_PROJECTED
  EXPECT(cells > 0, "%d cells in the registry", cells);
  return check::report("cells");
}
