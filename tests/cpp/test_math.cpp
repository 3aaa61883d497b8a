// exp_of, sigmoid_of, tanh_of, expm1_of and log1p_of of one level (the unit's flags choose it)
// against libm at a higher precision: the largest error in ULP, ranges, symmetry and special
// values; and its transposes and strips.
//
//   test_math        a sample, seconds
//   test_math --all  every float32 and a larger float64 sample, minutes

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "check.h"
#include "simd/math.h"

namespace {

using namespace fastrnn::FASTRNN_ISA;

static_assert(LDBL_MANT_DIG >= 64, "the float64 reference needs a wider long double");

#define TO_TEXT(x) #x
#define TEXT(x) TO_TEXT(x)
const char* const kLevel = TEXT(FASTRNN_ISA);

// The type of the reference: 29 and 11 bits more than T has.
template <class T> struct Wider;
template <> struct Wider<float> {
  using type = double;
};
template <> struct Wider<double> {
  using type = long double;
};
template <class T> using WiderOf = typename Wider<T>::type;

// The arguments of a function that takes every number.
struct Everywhere {
  template <class T> static bool takes(T) { return true; }
};

struct Exp : Everywhere {
  static constexpr const char* kName = "exp";
  static constexpr double kUlp = 2, kLowest = 0, kHighest = HUGE_VAL;
  template <class V> static V value(V x) { return exp_of(x); }
  template <class W> static W reference(W x) { return std::exp(x); }
};
struct Sigmoid : Everywhere {
  static constexpr const char* kName = "sigmoid";
  static constexpr double kUlp = 4, kLowest = 0, kHighest = 1;
  template <class V> static V value(V x) { return sigmoid_of(x); }
  template <class W> static W reference(W x) {
    const W e = std::exp(-std::fabs(x));
    return (x < 0 ? e : W(1)) / (1 + e);
  }
};
struct Tanh : Everywhere {
  static constexpr const char* kName = "tanh";
  static constexpr double kUlp = 4, kLowest = -1, kHighest = 1;
  template <class V> static V value(V x) { return tanh_of(x); }
  template <class W> static W reference(W x) { return std::tanh(x); }
};

struct Expm1 {
  static constexpr const char* kName = "expm1";
  static constexpr double kUlp = 2, kLowest = -1, kHighest = 0;
  template <class T> static bool takes(T x) { return !(x > 0); }
  template <class V> static V value(V x) { return expm1_of(x); }
  template <class W> static W reference(W x) { return std::expm1(x); }
};
struct Log1p {
  static constexpr const char* kName = "log1p";
  static constexpr double kUlp = 3, kLowest = 0, kHighest = 1;
  template <class T> static bool takes(T x) { return !(x < 0 || x > 1); }
  template <class V> static V value(V x) { return log1p_of(x); }
  template <class W> static W reference(W x) { return std::log1p(x); }
};

template <class T, class U> T from_bits(U bits) {
  static_assert(sizeof(T) == sizeof(U), "one size");
  T x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

template <class F, class T> T one(T x) {
  T out[Vec<T>::kLanes];
  F::value(Vec<T>(x)).store(out);
  return out[0];
}

// |got - exact| in units of the spacing of T at `exact`. Infinity stands for the first number that
// T has no exponent for, so that results around the overflow have an error too.
template <class T> double ulp_error(T got, WiderOf<T> exact) {
  using W = WiderOf<T>;
  using Limits = std::numeric_limits<T>;
  const W beyond = std::ldexp(W(1), Limits::max_exponent);
  const W got_wide = std::isinf(got) ? std::copysign(beyond, W(got)) : W(got);
  if (std::fabs(exact) > beyond) exact = std::copysign(beyond, exact);
  int exponent = std::fabs(exact) < W(Limits::min()) ? Limits::min_exponent - 1 : std::ilogb(exact);
  if (exponent == Limits::max_exponent) --exponent;
  return double(std::scalbn(std::fabs(got_wide - exact), Limits::digits - 1 - exponent));
}

// Feeds one function and keeps its largest error.
template <class F, class T> class Probe {
 public:
  void operator()(T x) {
    if (!F::takes(x)) return;
    in_[count_++] = x;
    if (count_ == Vec<T>::kLanes) flush();
  }

  void report() {
    while (count_ > 0) (*this)(T(0));
    std::printf("%s %s float%d: largest error %.3f ULP at %a\n", kLevel, F::kName,
                int(8 * sizeof(T)), worst_, double(worst_at_));
    EXPECT(worst_ <= F::kUlp, "%s: %.3f ULP at %a", F::kName, worst_, double(worst_at_));
  }

 private:
  void flush() {
    T out[Vec<T>::kLanes];
    F::value(Vec<T>::load(in_)).store(out);
    for (int lane = 0; lane < Vec<T>::kLanes; ++lane) judge(in_[lane], out[lane]);
    count_ = 0;
  }

  void judge(T x, T got) {
    if (std::isnan(x)) {
      if (!std::isnan(got)) EXPECT(false, "%s(NaN) is %a", F::kName, double(got));
      return;
    }
    if (!(got >= T(F::kLowest) && got <= T(F::kHighest))) {  // NaN too
      EXPECT(false, "%s(%a) is %a, out of range", F::kName, double(x), double(got));
      return;
    }
    const double error = ulp_error<T>(got, F::reference(WiderOf<T>(x)));
    if (error > worst_) {
      worst_ = error;
      worst_at_ = x;
    }
  }

  T in_[Vec<T>::kLanes];
  int count_ = 0;
  double worst_ = 0;
  T worst_at_ = 0;
};

// xorshift64*: the same sample everywhere.
class Random {
 public:
  uint64_t bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 2685821657736338717ull;
  }
  double uniform(double low, double high) {
    return low + (high - low) * double(bits() >> 11) * 0x1p-53;
  }
  // Of either sign and any power of two from 2^low to 2^(high - 1).
  double scaled(int low, int high) {
    const int exponent = low + int(bits() % uint64_t(high - low));
    return std::ldexp(uniform(-1, 1), exponent);
  }

 private:
  uint64_t state_ = 88172645463325252ull;
};

// Every `stride`-th of all 2^32 patterns; an odd stride reaches every exponent and sign.
template <class F> void sweep_float(uint64_t stride) {
  Probe<F, float> probe;
  const uint64_t count = uint64_t(1) << 32;
  for (uint64_t i = 0, next = 0; i < count; i += stride) {
    if (stride == 1 && i == next) {
      std::printf("\r%s %s float32: %d%%", kLevel, F::kName, int(100 * i / count));
      std::fflush(stdout);
      next += count / 100;
    }
    probe(from_bits<float>(uint32_t(i)));
  }
  if (stride == 1) std::printf("\r");
  probe.report();
}

template <class F> void sample_double(long scale) {
  Probe<F, double> probe;
  Random random;
  for (long i = 0; i < scale * 200000; ++i) {
    probe(random.uniform(-1, 1));
    probe(random.uniform(-20, 20));
    probe(random.uniform(-760, 720));
    probe(random.scaled(-70, 10));
  }
  for (long i = 0; i < scale * 20000; ++i)
    probe(from_bits<double>(random.bits()));  // any exponent, infinities, NaN
  // The edges between one n and the next, where the reduced argument is largest: ln(2) * (n + 1/2)
  // for exp and sigmoid, half of it for tanh. And the multiples of ln(2), where it cancels.
  for (int n = -4400; n <= 4400; ++n) {
    double x = 0.25 * 0.6931471805599453 * n;
    for (int k = 0; k < 16; ++k) x = std::nextafter(x, -HUGE_VAL);
    for (int k = 0; k < 32; ++k, x = std::nextafter(x, HUGE_VAL)) probe(x);
  }
  probe.report();
}

template <class F, class T> void expect_exactly(T x, T value) {
  const T got = one<F>(x);
  EXPECT(std::memcmp(&got, &value, sizeof got) == 0, "%s(%a) is %a, not %a", F::kName, double(x),
         double(got), double(value));
}

template <class T> void special_values() {
  using Limits = std::numeric_limits<T>;
  const T inf = Limits::infinity(), huge = Limits::max(), zero = 0;
  for (T x : {zero, -zero, Limits::denorm_min(), -Limits::denorm_min()}) {
    expect_exactly<Exp>(x, T(1));
    expect_exactly<Sigmoid>(x, T(0.5));
    expect_exactly<Tanh>(x, x);
  }
  for (T x : {Limits::min(), 3 * Limits::denorm_min(), Limits::min() - Limits::denorm_min()}) {
    expect_exactly<Tanh>(x, x);
    expect_exactly<Tanh>(-x, -x);
  }
  for (T x : {inf, huge}) {
    expect_exactly<Exp>(x, inf);
    expect_exactly<Exp>(-x, zero);
    expect_exactly<Sigmoid>(x, T(1));
    expect_exactly<Sigmoid>(-x, zero);
    expect_exactly<Tanh>(x, T(1));
    expect_exactly<Tanh>(-x, T(-1));
  }
  for (T x : {Limits::quiet_NaN(), -Limits::quiet_NaN()}) {
    EXPECT(std::isnan(one<Exp>(x)), "exp is %a", double(one<Exp>(x)));
    EXPECT(std::isnan(one<Sigmoid>(x)), "sigmoid is %a", double(one<Sigmoid>(x)));
    EXPECT(std::isnan(one<Tanh>(x)), "tanh is %a", double(one<Tanh>(x)));
  }
  expect_exactly<Expm1>(-inf, T(-1));
  expect_exactly<Expm1>(zero, zero);
  expect_exactly<Log1p>(zero, zero);
  for (T x : {Limits::min(), 3 * Limits::denorm_min(), Limits::denorm_min()}) {
    expect_exactly<Expm1>(-x, -x);
    expect_exactly<Log1p>(x, x);
  }
  // The last finite exp, and the first infinite one.
  const T last = sizeof(T) == 4 ? T(0x1.62e42ep+6) : T(0x1.62e42fefa39efp+9);
  EXPECT(std::isfinite(one<Exp>(last)), "exp(%a) is %a", double(last), double(one<Exp>(last)));
  expect_exactly<Exp>(std::nextafter(last, inf), inf);
  // In the middle of the subnormal results a flush to zero would show as thousands of ULP, and at
  // their end too, where an ULP is all there is.
  const T low = T(Limits::min_exponent - Limits::digits + 1) * T(0.6931471805599453);
  EXPECT(one<Exp>(low) > 0, "exp(%a) is 0", double(low));
  EXPECT(one<Sigmoid>(low) > 0, "sigmoid(%a) is 0", double(low));
}

// tanh is odd to the last bit, which no error bound implies.
template <class T> void symmetry() {
  Random random;
  for (int i = 0; i < 100000; ++i) {
    const T x = T(random.scaled(-11, 5));
    const T plus = one<Tanh>(x), minus = one<Tanh>(-x);
    EXPECT(plus == -minus, "tanh(%a) is %a and %a", double(x), double(plus), double(minus));
  }
}

// A lane's result does not depend on its place or on its neighbours.
template <class F, class T> void lanes() {
  constexpr int kLanes = Vec<T>::kLanes;
  const T inf = std::numeric_limits<T>::infinity();
  const T values[] = {T(0.3), -inf, T(-90), T(1e-30), T(NAN), T(-3), inf, T(20)};
  T in[kLanes], out[kLanes];
  for (int shift = 0; shift < 8; ++shift) {
    for (int lane = 0; lane < kLanes; ++lane) in[lane] = values[(lane + shift) % 8];
    F::value(Vec<T>::load(in)).store(out);
    for (int lane = 0; lane < kLanes; ++lane) {
      const T alone = one<F>(in[lane]);
      EXPECT(std::memcmp(&out[lane], &alone, sizeof alone) == 0, "%s(%a) is %a, alone %a", F::kName,
             double(in[lane]), double(out[lane]), double(alone));
    }
  }
}

template <class T> void transposes() {
  constexpr int kLanes = Vec<T>::kLanes;
  Vec<T> v[kLanes];
  T row[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < kLanes; ++j) row[j] = T(100 * i + j);
    v[i] = Vec<T>::load(row);
  }
  transpose(v);
  for (int i = 0; i < kLanes; ++i) {
    v[i].store(row);
    for (int j = 0; j < kLanes; ++j)
      EXPECT(row[j] == T(100 * j + i), "transposed: %g at (%d, %d)", double(row[j]), i, j);
  }
}

// Rows further apart than they are long, in an array that ends with the last strip.
template <class T> void strips() {
  constexpr int kLanes = Vec<T>::kLanes, n = kStrip<T>;
  constexpr int kRow = 3 * n + 1;
  constexpr int kSize = (kLanes - 1) * kRow + n;
  T rows[kSize];
  for (int i = 0; i < kSize; ++i) rows[i] = T(i);
  Vec<T> v[n];
  load_strip(rows, kRow, v);
  for (int k = 0; k < n; ++k) {
    T lanes[kLanes];
    v[k].store(lanes);
    for (int i = 0; i < kLanes; ++i)
      EXPECT(lanes[i] == T(i * kRow + k), "strip: %g at (%d, %d)", double(lanes[i]), i, k);
  }
}

template <class F> void test(bool all) {
  lanes<F, float>();
  lanes<F, double>();
  sweep_float<F>(all ? 1 : 257);
  sample_double<F>(all ? 40 : 1);
}

}  // namespace

int main(int argc, char** argv) {
  const bool all = argc == 2 && std::strcmp(argv[1], "--all") == 0;
  if (argc > 1 && !all) {
    std::fprintf(stderr, "usage: %s [--all]\n", argv[0]);
    return 2;
  }
  special_values<float>();
  special_values<double>();
  symmetry<float>();
  symmetry<double>();
  transposes<float>();
  transposes<double>();
  strips<float>();
  strips<double>();
  test<Exp>(all);
  test<Sigmoid>(all);
  test<Tanh>(all);
  test<Expm1>(all);
  test<Log1p>(all);
  return check::report(kLevel);
}
