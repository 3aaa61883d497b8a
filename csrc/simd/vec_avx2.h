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

FASTRNN_INLINE Integers add_pair_products(Integers sum, Integers a, Integers b) {
  return sum + reinterpret_cast<Integers>(
                   _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}

// Numbers of float16: see narrow.h.
FASTRNN_INLINE Vec<float> widen_float16(HalfBits bits) {
  return _mm256_cvtph_ps(reinterpret_cast<__m128i>(bits));
}
FASTRNN_INLINE HalfBits narrow_float16(Vec<float> v) {
  return reinterpret_cast<HalfBits>(_mm256_cvtps_ph(v.raw, _MM_FROUND_TO_NEAREST_INT));
}

FASTRNN_INLINE void transpose(Vec<float> (&v)[8]) {
  for (int i = 0; i < 8; i += 4) {
    const __m256d low = _mm256_castps_pd(_mm256_unpacklo_ps(v[i].raw, v[i + 1].raw));
    const __m256d high = _mm256_castps_pd(_mm256_unpackhi_ps(v[i].raw, v[i + 1].raw));
    const __m256d low2 = _mm256_castps_pd(_mm256_unpacklo_ps(v[i + 2].raw, v[i + 3].raw));
    const __m256d high2 = _mm256_castps_pd(_mm256_unpackhi_ps(v[i + 2].raw, v[i + 3].raw));
    v[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, low2));
    v[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, low2));
    v[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, high2));
    v[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, high2));
  }
  for (int j = 0; j < 4; ++j) {
    const __m256 a = v[j].raw, b = v[4 + j].raw;
    v[j] = _mm256_permute2f128_ps(a, b, 0x20);
    v[4 + j] = _mm256_permute2f128_ps(a, b, 0x31);
  }
}
FASTRNN_INLINE void transpose(Vec<double> (&v)[4]) {
  for (int i = 0; i < 4; i += 2) {
    const __m256d a = v[i].raw, b = v[i + 1].raw;
    v[i] = _mm256_unpacklo_pd(a, b);
    v[i + 1] = _mm256_unpackhi_pd(a, b);
  }
  for (int j = 0; j < 2; ++j) {
    const __m256d a = v[j].raw, b = v[2 + j].raw;
    v[j] = _mm256_permute2f128_pd(a, b, 0x20);
    v[2 + j] = _mm256_permute2f128_pd(a, b, 0x31);
  }
}

// Loads put two rows of 128 bits into one register, so that shuffles need not cross lanes: those
// have one port, loads have others.
FASTRNN_INLINE __m128 load_128(const void* p) { return _mm_loadu_ps(static_cast<const float*>(p)); }
template <class U> FASTRNN_INLINE __m256 load_halves(const U* p, int64_t apart) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(load_128(p)), load_128(p + apart), 1);
}
FASTRNN_INLINE __m256d load_halves(const double* p, int64_t apart) {
  return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p)), _mm_loadu_pd(p + apart), 1);
}
template <class U> FASTRNN_INLINE void load_strip_of(const U* p, int64_t row, Vec<float> (&v)[4]) {
  const __m256 a = load_halves(p, 4 * row), b = load_halves(p + row, 4 * row);
  const __m256 c = load_halves(p + 2 * row, 4 * row), d = load_halves(p + 3 * row, 4 * row);
  const __m256d low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
  const __m256d high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
  const __m256d low2 = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
  const __m256d high2 = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
  v[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, low2));
  v[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, low2));
  v[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, high2));
  v[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, high2));
}
FASTRNN_INLINE void load_strip(const float* p, int64_t row, Vec<float> (&v)[4]) {
  load_strip_of(p, row, v);
}
FASTRNN_INLINE void load_pair_strip(const uint16_t* p, int64_t row, Vec<float> (&v)[4]) {
  load_strip_of(p, row, v);
}
FASTRNN_INLINE void load_strip(const double* p, int64_t row, Vec<double> (&v)[2]) {
  const __m256d a = load_halves(p, 2 * row), b = load_halves(p + row, 2 * row);
  v[0] = _mm256_unpacklo_pd(a, b);
  v[1] = _mm256_unpackhi_pd(a, b);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
