// What vec.h leaves to a level, without intrinsics: levels `scalar` (any processor) and `wide`
// (a test level: 16 float lanes over whatever the compiler has).
#pragma once

namespace fastrnn {
namespace FASTRNN_ISA {

FASTRNN_INLINE float fma1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FASTRNN_INLINE double fma1(double a, double b, double c) { return __builtin_fma(a, b, c); }

// a * b + c with one rounding.
template <class T> FASTRNN_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  typename Vec<T>::Raw r{};
  for (int i = 0; i < Vec<T>::kLanes; ++i) r[i] = fma1(a.raw[i], b.raw[i], c.raw[i]);
  return r;
}

// The first n lanes from p, the others 0; nothing past p[n - 1] is read.
template <class T> FASTRNN_INLINE Vec<T> load_n(const T* p, int64_t n) {
  typename Vec<T>::Raw r{};
  for (int i = 0; i < Vec<T>::kLanes; ++i)
    if (i < n) r[i] = p[i];
  return r;
}

// The first n lanes to p; nothing past p[n - 1] is written.
template <class T> FASTRNN_INLINE void store_n(Vec<T> v, T* p, int64_t n) {
  for (int i = 0; i < Vec<T>::kLanes; ++i)
    if (i < n) p[i] = v.raw[i];
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
