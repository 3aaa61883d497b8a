// exp, sigmoid and tanh of a Vec, and for activations that a layer may choose expm1 and log1p where
// those need them. Largest errors in ULP (tests/cpp/test_math.cpp measures them and allows 2, 4, 4,
// 2 and 3; float over every number, double over a sample):
//
//            exp    sigmoid  tanh   expm1  log1p
//   float    0.90   2.49     2.61   0.95   1.97
//   double   1.31   2.48     2.74   1.12   1.96
//
// Results never leave [0, 1] and [-1, 1], are exact at 0 and at the infinities, keep the sign of 0
// (tanh), are not flushed where they are subnormal, and pass NaN on. Branch-free; one value gives
// the same bits in every lane and, every step being an IEEE operation, at every level.
//
// All but log1p reduce x = n * ln(2) + r with |r| <= ln(2) / 2 and share one polynomial,
// exp(r) = 1 + r + r^2 * Q(r).
#pragma once

#include "vec.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// tools/fit_exp.py prints kLog2e to kQ.
template <class T> struct ExpConstants;

template <> struct ExpConstants<float> {
  static constexpr float kLog2e = 0x1.715476p+0f;
  static constexpr float kLn2 = 0x1.62e43p-1f, kLn2Low = -0x1.05c61p-29f;
  static constexpr int kDegree = 4;
  static constexpr float kQ[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239f8p-7f,
                                 0x1.6a240ep-10f};

  // Dependent chains in the evaluation of Q: two hide latency where the polynomial is long, one has
  // the fewest operations.
  static constexpr int kChains = 1;

  static constexpr int kFractionBits = 23, kBias = 127;
  // At kOverflow exp is infinite, at kUnderflow 0; from kTanhOne on tanh rounds to 1, from
  // kSigmoidOne on sigmoid does.
  static constexpr float kOverflow = 89, kUnderflow = -105, kTanhOne = 10, kSigmoidOne = 40;
  // sigmoid works with numbers scaled by this power of two.
  static constexpr int kShift = 32;
  static constexpr float kScale = 0x1p32f;
};

template <> struct ExpConstants<double> {
  static constexpr double kLog2e = 0x1.71547652b82fep+0;
  static constexpr double kLn2 = 0x1.62e42fefa39efp-1, kLn2Low = 0x1.abc9e3b39803fp-56;
  static constexpr int kDegree = 9;
  static constexpr double kQ[] = {
      0x1.000000000000ap-1,  0x1.55555555554fap-3,  0x1.5555555550866p-5,  0x1.1111111127c56p-7,
      0x1.6c16c1842f699p-10, 0x1.a01a012a3cd3bp-13, 0x1.a01999fd0f7c6p-16, 0x1.71df25757350dp-19,
      0x1.28ad81a644624p-22, 0x1.ad7f5e4606846p-26};

  static constexpr int kChains = 2;

  static constexpr int kFractionBits = 52, kBias = 1023;
  static constexpr double kOverflow = 710, kUnderflow = -746, kTanhOne = 20, kSigmoidOne = 40;
  static constexpr int kShift = 64;
  static constexpr double kScale = 0x1p64;
};

// The nearest integer n to x * scale, and 2^(n + shift), for results that are normal numbers.
//
// Adding 1.5 * 2^23 (float) leaves an integer in the low bits of the sum; with the exponent's bias
// added to it they are, shifted to their place, the power of two.
template <class T> struct RoundedExponent {
  Vec<T> n, power;

  FASTRNN_INLINE RoundedExponent(Vec<T> x, T scale, int shift) {
    using C = ExpConstants<T>;
    const Vec<T> magic(T(3ll << (C::kFractionBits - 1)) + T(C::kBias + shift));
    const Vec<T> sum = fma(x, Vec<T>(scale), magic);
    n = sum - magic;
    power = Vec<T>::from_bits(sum.bits() << C::kFractionBits);
  }
};

// v * 2^n for integral n and v near 1, rounded once: 2^n itself may be no normal number, its two
// halves are. A level may have an overload.
template <class T> FASTRNN_INLINE Vec<T> ldexp_of(Vec<T> v, Vec<T> n) {
  const RoundedExponent<T> half(n, T(0.5), 0);
  return v * half.power * RoundedExponent<T>(n - half.n, T(1), 0).power;
}

// base^2 * factor * Q(base * r), where both are powers of two: the scaling costs nothing, as it
// goes into the coefficients.
template <class T> FASTRNN_INLINE Vec<T> exp_tail(Vec<T> r, Vec<T> r2, T base, T factor) {
  using C = ExpConstants<T>;
  Vec<T> c[C::kDegree + 1];
  for (int k = 0; k <= C::kDegree; ++k) {
    T power = factor;
    for (int j = 0; j < k + 2; ++j) power *= base;
    c[k] = Vec<T>(C::kQ[k] * power);
  }
  if constexpr (C::kChains == 1) {
    Vec<T> q = c[C::kDegree];
    for (int k = C::kDegree - 1; k >= 0; --k) q = fma(q, r, c[k]);
    return q;
  } else {
    static_assert(C::kDegree % 2 == 1, "two chains of one length");
    Vec<T> even = c[C::kDegree - 1], odd = c[C::kDegree];
    for (int k = C::kDegree - 3; k >= 0; k -= 2) {
      even = fma(even, r2, c[k]);
      odd = fma(odd, r2, c[k + 1]);
    }
    return fma(odd, r, even);
  }
}

// factor * exp(r) for |r| <= ln(2) / 2, where factor is a power of two.
template <class T> FASTRNN_INLINE Vec<T> exp_reduced(Vec<T> r, T factor) {
  const Vec<T> one(factor), r2 = r * r, q = exp_tail(r, r2, T(1), factor);
  if constexpr (ExpConstants<T>::kChains == 1) {
    return fma(fma(q, r, one), r, one);
  } else {
    return fma(q, r2, fma(r, one, one));
  }
}

template <class T> FASTRNN_INLINE Vec<T> exp_of(Vec<T> x) {
  using C = ExpConstants<T>;
  x = at_least(at_most(x, Vec<T>(C::kOverflow)), Vec<T>(C::kUnderflow));
  const Vec<T> n = RoundedExponent<T>(x, C::kLog2e, 0).n;
  const Vec<T> r = fma(n, Vec<T>(-C::kLn2Low), fma(n, Vec<T>(-C::kLn2), x));
  return ldexp_of(exp_reduced(r, T(1)), n);
}

// With x = n * ln(2) - r: 1 / (1 + exp(-x)) = 2^n / (2^n + exp(r)). Both terms are held scaled by
// 2^kShift, so that they are normal numbers even where the quotient is subnormal, and only the
// division rounds that.
template <class T> FASTRNN_INLINE Vec<T> sigmoid_of(Vec<T> x) {
  using C = ExpConstants<T>;
  x = at_least(at_most(x, Vec<T>(C::kSigmoidOne)), Vec<T>(C::kUnderflow));
  const RoundedExponent<T> e(x, C::kLog2e, C::kShift);
  const Vec<T> r = fma(e.n, Vec<T>(C::kLn2Low), fma(e.n, Vec<T>(C::kLn2), -x));
  return e.power / (e.power + exp_reduced(r, C::kScale));
}

// tanh(x) = h / (h + 1) with h = (exp(2 * x) - 1) / 2, for x >= 0. With x = n * ln(2) / 2 + r and
// t = (exp(2 * r) - 1) / 2 = r + 2 * r^2 * Q(2 * r): h = 2^n * t + (2^n - 1) / 2. ln(2) is needed
// once only: n is small wherever the result is not 1 to the last bit.
template <class T> FASTRNN_INLINE Vec<T> tanh_of(Vec<T> x) {
  using C = ExpConstants<T>;
  const auto sign = x.bits() & Vec<T>(T(-0.0)).bits();
  x = at_most(Vec<T>::from_bits(x.bits() ^ sign), Vec<T>(C::kTanhOne));
  const RoundedExponent<T> e(x, 2 * C::kLog2e, 0);
  const Vec<T> r = fma(e.n, Vec<T>(-C::kLn2 / 2), x);
  const Vec<T> r2 = r * r, t = fma(r2, exp_tail(r, r2, T(2), T(0.5)), r);
  const Vec<T> h = fma(e.power, t, fma(e.power, Vec<T>(T(0.5)), Vec<T>(T(-0.5))));
  return Vec<T>::from_bits((h / (h + Vec<T>(T(1)))).bits() | sign);
}

// exp(x) - 1 for x <= 0. With x = n * ln(2) + r and t = exp(r) - 1 = r + r^2 * Q(r):
// 2^n * t + (2^n - 1), where nothing is lost of a small x, since n is 0 there.
template <class T> FASTRNN_INLINE Vec<T> expm1_of(Vec<T> x) {
  using C = ExpConstants<T>;
  x = at_least(at_most(x, Vec<T>(T(0))), Vec<T>(-C::kSigmoidOne));  // below, it rounds to -1
  const RoundedExponent<T> e(x, C::kLog2e, 0);
  const Vec<T> r = fma(e.n, Vec<T>(-C::kLn2Low), fma(e.n, Vec<T>(-C::kLn2), x));
  const Vec<T> r2 = r * r, t = fma(r2, exp_tail(r, r2, T(1), T(1)), r);
  return fma(e.power, t, e.power - Vec<T>(T(1)));
}

template <class T> struct AtanhSeries {
  static constexpr int kTerms = sizeof(T) == 4 ? 7 : 16;
  T c[kTerms] = {};
  constexpr AtanhSeries() {
    T power = 1;
    for (int k = 0; k < kTerms; ++k) {
      power /= 4;
      c[k] = power / T(2 * k + 3);
    }
  }
};

// log(1 + x) for x in [0, 1]: 2 * atanh(s) with s = x / (2 + x) <= 1/3, by its series in t = 2 * s,
//
//   t * (1 + t^2 / (4 * 3) + t^4 / (4^2 * 5) + ...),
//
// which is exact where x is small. A term is 1/9 of the one before it.
template <class T> FASTRNN_INLINE Vec<T> log1p_of(Vec<T> x) {
  constexpr AtanhSeries<T> series;
  const Vec<T> t = (x + x) / (x + Vec<T>(T(2))), t2 = t * t;
  Vec<T> sum(series.c[series.kTerms - 1]);
  for (int k = series.kTerms - 2; k >= 0; --k) sum = fma(sum, t2, Vec<T>(series.c[k]));
  return fma(t * t2, sum, t);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
