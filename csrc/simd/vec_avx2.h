// What vec.h leaves to a level, for AVX2 + FMA.
#pragma once

#include <immintrin.h>

namespace fastrnn {
namespace FASTRNN_ISA {

// a * b + c with one rounding.
FASTRNN_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return _mm256_fmadd_ps(a.raw, b.raw, c.raw);
}
FASTRNN_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return _mm256_fmadd_pd(a.raw, b.raw, c.raw);
}

FASTRNN_INLINE __m256i first_lanes(Vec<float>, int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTRNN_INLINE __m256i first_lanes(Vec<double>, int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

// The first n lanes from p, the others 0; nothing past p[n - 1] is read.
FASTRNN_INLINE Vec<float> load_n(const float* p, int64_t n) {
  return _mm256_maskload_ps(p, first_lanes(Vec<float>{}, n));
}
FASTRNN_INLINE Vec<double> load_n(const double* p, int64_t n) {
  return _mm256_maskload_pd(p, first_lanes(Vec<double>{}, n));
}

// The first n lanes to p; nothing past p[n - 1] is written.
FASTRNN_INLINE void store_n(Vec<float> v, float* p, int64_t n) {
  _mm256_maskstore_ps(p, first_lanes(v, n), v.raw);
}
FASTRNN_INLINE void store_n(Vec<double> v, double* p, int64_t n) {
  _mm256_maskstore_pd(p, first_lanes(v, n), v.raw);
}

// The instructions return their second operand where one is NaN.
FASTRNN_INLINE Vec<float> at_most(Vec<float> x, Vec<float> limit) {
  return _mm256_min_ps(limit.raw, x.raw);
}
FASTRNN_INLINE Vec<double> at_most(Vec<double> x, Vec<double> limit) {
  return _mm256_min_pd(limit.raw, x.raw);
}
FASTRNN_INLINE Vec<float> at_least(Vec<float> x, Vec<float> limit) {
  return _mm256_max_ps(limit.raw, x.raw);
}
FASTRNN_INLINE Vec<double> at_least(Vec<double> x, Vec<double> limit) {
  return _mm256_max_pd(limit.raw, x.raw);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
