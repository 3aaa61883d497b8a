// What vec.h leaves to a level, for 64-bit ARM, all of which has NEON.
#pragma once

#include <arm_neon.h>

namespace fastrnn {
namespace FASTRNN_ISA {

// a * b + c with one rounding.
FASTRNN_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return vfmaq_f32(c.raw, a.raw, b.raw);
}
FASTRNN_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return vfmaq_f64(c.raw, a.raw, b.raw);
}

// The instructions return NaN where one operand is.
FASTRNN_INLINE Vec<float> at_most(Vec<float> x, Vec<float> limit) {
  return vminq_f32(x.raw, limit.raw);
}
FASTRNN_INLINE Vec<double> at_most(Vec<double> x, Vec<double> limit) {
  return vminq_f64(x.raw, limit.raw);
}
FASTRNN_INLINE Vec<float> at_least(Vec<float> x, Vec<float> limit) {
  return vmaxq_f32(x.raw, limit.raw);
}
FASTRNN_INLINE Vec<double> at_least(Vec<double> x, Vec<double> limit) {
  return vmaxq_f64(x.raw, limit.raw);
}

FASTRNN_INLINE void transpose(Vec<double> (&v)[2]) {
  const float64x2_t a = v[0].raw, b = v[1].raw;
  v[0] = vtrn1q_f64(a, b);
  v[1] = vtrn2q_f64(a, b);
}
FASTRNN_INLINE void transpose(Vec<float> (&v)[4]) {
  // Pairs of lanes, then pairs of pairs.
  float64x2_t even[2], odd[2];
  for (int i = 0; i < 2; ++i) {
    const float32x4_t a = v[2 * i].raw, b = v[2 * i + 1].raw;
    even[i] = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
    odd[i] = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
  }
  v[0] = vreinterpretq_f32_f64(vtrn1q_f64(even[0], even[1]));
  v[1] = vreinterpretq_f32_f64(vtrn1q_f64(odd[0], odd[1]));
  v[2] = vreinterpretq_f32_f64(vtrn2q_f64(even[0], even[1]));
  v[3] = vreinterpretq_f32_f64(vtrn2q_f64(odd[0], odd[1]));
}

// A strip is as wide as a vector.
FASTRNN_INLINE void load_strip(const float* p, int64_t row, Vec<float> (&v)[4]) {
  for (int i = 0; i < 4; ++i) v[i] = Vec<float>::load(p + i * row);
  transpose(v);
}
FASTRNN_INLINE void load_strip(const double* p, int64_t row, Vec<double> (&v)[2]) {
  for (int i = 0; i < 2; ++i) v[i] = Vec<double>::load(p + i * row);
  transpose(v);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
