// What vec.h leaves to a level, for AVX-512 (F, BW, DQ, VL).
#pragma once

// GCC 12 warns of its own header: bug 105593.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

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

FASTRNN_INLINE Integers add_pair_products(Integers sum, Integers a, Integers b) {
  return sum + reinterpret_cast<Integers>(
                   _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}

// Numbers of float16: see narrow.h.
FASTRNN_INLINE Vec<float> widen_float16(HalfBits bits) {
  return _mm512_maskz_cvtph_ps(0xffff, reinterpret_cast<__m256i>(bits));
}
FASTRNN_INLINE HalfBits narrow_float16(Vec<float> v) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return reinterpret_cast<HalfBits>(_mm512_maskz_cvtps_ph(0xffff, v.raw, kNearest));
}

// Transposes n rows of blocks of 128 bits, 4 x 4 of them, where a column's rows lie n / 4 apart.
template <class T, int n> FASTRNN_INLINE void transpose_blocks(Vec<T> (&v)[n]) {
  constexpr int apart = n / 4;
  for (int j = 0; j < apart; ++j) {
    __m512 q[4];
    for (int i = 0; i < 4; ++i) q[i] = reinterpret_cast<__m512>(v[i * apart + j].raw);
    const __m512 even = _mm512_shuffle_f32x4(q[0], q[1], 0x88);
    const __m512 odd = _mm512_shuffle_f32x4(q[0], q[1], 0xdd);
    const __m512 even2 = _mm512_shuffle_f32x4(q[2], q[3], 0x88);
    const __m512 odd2 = _mm512_shuffle_f32x4(q[2], q[3], 0xdd);
    using Raw = typename Vec<T>::Raw;
    v[j] = reinterpret_cast<Raw>(_mm512_shuffle_f32x4(even, even2, 0x88));
    v[apart + j] = reinterpret_cast<Raw>(_mm512_shuffle_f32x4(odd, odd2, 0x88));
    v[2 * apart + j] = reinterpret_cast<Raw>(_mm512_shuffle_f32x4(even, even2, 0xdd));
    v[3 * apart + j] = reinterpret_cast<Raw>(_mm512_shuffle_f32x4(odd, odd2, 0xdd));
  }
}

FASTRNN_INLINE void transpose(Vec<float> (&v)[16]) {
  for (int i = 0; i < 16; i += 4) {
    const __m512d low = _mm512_castps_pd(_mm512_unpacklo_ps(v[i].raw, v[i + 1].raw));
    const __m512d high = _mm512_castps_pd(_mm512_unpackhi_ps(v[i].raw, v[i + 1].raw));
    const __m512d low2 = _mm512_castps_pd(_mm512_unpacklo_ps(v[i + 2].raw, v[i + 3].raw));
    const __m512d high2 = _mm512_castps_pd(_mm512_unpackhi_ps(v[i + 2].raw, v[i + 3].raw));
    v[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
    v[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
    v[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
    v[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
  }
  transpose_blocks(v);
}
FASTRNN_INLINE void transpose(Vec<double> (&v)[8]) {
  for (int i = 0; i < 8; i += 2) {
    const __m512d a = v[i].raw, b = v[i + 1].raw;
    v[i] = _mm512_unpacklo_pd(a, b);
    v[i + 1] = _mm512_unpackhi_pd(a, b);
  }
  transpose_blocks(v);
}

// Loads put four rows of 128 bits into one register, so that shuffles need not cross lanes, and
// half as many do: shuffles have one port, loads have others.
FASTRNN_INLINE __m128 load_128(const void* p) { return _mm_loadu_ps(static_cast<const float*>(p)); }
template <class U> FASTRNN_INLINE __m512 load_quarters(const U* p, int64_t apart) {
  __m512 v = _mm512_castps128_ps512(load_128(p));
  v = _mm512_insertf32x4(v, load_128(p + apart), 1);
  v = _mm512_insertf32x4(v, load_128(p + 2 * apart), 2);
  return _mm512_insertf32x4(v, load_128(p + 3 * apart), 3);
}
FASTRNN_INLINE __m512d load_quarters(const double* p, int64_t apart) {
  __m512d v = _mm512_castpd128_pd512(_mm_loadu_pd(p));
  v = _mm512_insertf64x2(v, _mm_loadu_pd(p + apart), 1);
  v = _mm512_insertf64x2(v, _mm_loadu_pd(p + 2 * apart), 2);
  return _mm512_insertf64x2(v, _mm_loadu_pd(p + 3 * apart), 3);
}
template <class U> FASTRNN_INLINE void load_strip_of(const U* p, int64_t row, Vec<float> (&v)[4]) {
  const __m512 a = load_quarters(p, 4 * row), b = load_quarters(p + row, 4 * row);
  const __m512 c = load_quarters(p + 2 * row, 4 * row), d = load_quarters(p + 3 * row, 4 * row);
  const __m512d low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
  const __m512d high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
  const __m512d low2 = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
  const __m512d high2 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
  v[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
  v[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
  v[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
  v[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
}
FASTRNN_INLINE void load_strip(const float* p, int64_t row, Vec<float> (&v)[4]) {
  load_strip_of(p, row, v);
}
FASTRNN_INLINE void load_pair_strip(const uint16_t* p, int64_t row, Vec<float> (&v)[4]) {
  load_strip_of(p, row, v);
}
FASTRNN_INLINE void load_strip(const double* p, int64_t row, Vec<double> (&v)[2]) {
  const __m512d a = load_quarters(p, 2 * row), b = load_quarters(p + row, 2 * row);
  v[0] = _mm512_unpacklo_pd(a, b);
  v[1] = _mm512_unpackhi_pd(a, b);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
