// What vec.h leaves to a level, without intrinsics, so that any processor can run it.
#pragma once

namespace fastrnn {
namespace FASTRNN_ISA {

FASTRNN_INLINE float fma1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FASTRNN_INLINE double fma1(double a, double b, double c) { return __builtin_fma(a, b, c); }

// a * b + c with one rounding.
template <class T> FASTRNN_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  typename Vec<T>::Raw r{};
#pragma GCC unroll 1  // each is a call
  for (int i = 0; i < Vec<T>::kLanes; ++i) r[i] = fma1(a.raw[i], b.raw[i], c.raw[i]);
  return r;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
