// What vec.h leaves to a level, for AVX-512 (F, BW, DQ, VL).
#pragma once

#include <immintrin.h>

namespace fastrnn {
namespace FASTRNN_ISA {

// a * b + c with one rounding.
FASTRNN_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return _mm512_fmadd_ps(a.raw, b.raw, c.raw);
}
FASTRNN_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return _mm512_fmadd_pd(a.raw, b.raw, c.raw);
}

FASTRNN_INLINE unsigned first_lanes(int64_t n) { return (1u << n) - 1; }

// The first n lanes from p, the others 0; nothing past p[n - 1] is read.
FASTRNN_INLINE Vec<float> load_n(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_lanes(n)), p);
}
FASTRNN_INLINE Vec<double> load_n(const double* p, int64_t n) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(n)), p);
}

// The first n lanes to p; nothing past p[n - 1] is written.
FASTRNN_INLINE void store_n(Vec<float> v, float* p, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(first_lanes(n)), v.raw);
}
FASTRNN_INLINE void store_n(Vec<double> v, double* p, int64_t n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_lanes(n)), v.raw);
}

// The instructions return their second operand where one is NaN. (Masked by a full mask, which
// costs nothing: GCC's headers make the plain forms warn of an uninitialised value.)
FASTRNN_INLINE Vec<float> at_most(Vec<float> x, Vec<float> limit) {
  return _mm512_maskz_min_ps(0xffff, limit.raw, x.raw);
}
FASTRNN_INLINE Vec<double> at_most(Vec<double> x, Vec<double> limit) {
  return _mm512_maskz_min_pd(0xff, limit.raw, x.raw);
}
FASTRNN_INLINE Vec<float> at_least(Vec<float> x, Vec<float> limit) {
  return _mm512_maskz_max_ps(0xffff, limit.raw, x.raw);
}
FASTRNN_INLINE Vec<double> at_least(Vec<double> x, Vec<double> limit) {
  return _mm512_maskz_max_pd(0xff, limit.raw, x.raw);
}

// v * 2^n for integral n, rounded once.
FASTRNN_INLINE Vec<float> ldexp_of(Vec<float> v, Vec<float> n) {
  return _mm512_maskz_scalef_ps(0xffff, v.raw, n.raw);
}
FASTRNN_INLINE Vec<double> ldexp_of(Vec<double> v, Vec<double> n) {
  return _mm512_maskz_scalef_pd(0xff, v.raw, n.raw);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
