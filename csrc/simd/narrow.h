// float16 and bfloat16: numbers of 16 bits, which arrays have and no arithmetic is done in.
// Widening is exact. Narrowing rounds to the nearest, ties to even, keeps subnormal numbers and
// makes a NaN quiet, all of it whatever the processor's control register says of subnormal numbers.
#pragma once

#include <string.h>

#include "vec.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct float16 {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

using FloatBits = uint32_t __attribute__((vector_size(kVectorBytes)));
FASTRNN_INLINE FloatBits bits_of(Vec<float> v) { return reinterpret_cast<FloatBits>(v.raw); }
FASTRNN_INLINE Vec<float> float_of(FloatBits bits) {
  return reinterpret_cast<Vec<float>::Raw>(bits);
}
FASTRNN_INLINE FloatBits all_lanes(uint32_t bits) { return bits - FloatBits{}; }

// A vector of which the compiler does not know how it was made: of two shifts it makes one mask.
template <class Bits> FASTRNN_INLINE Bits opaque(Bits bits) {
#if defined(__x86_64__)
  asm("" : "+x"(bits));
#endif
  return bits;
}

// The numbers of bfloat16 in either half of the lanes.
FASTRNN_INLINE Vec<float> high_halves(Vec<float> v) { return float_of(bits_of(v) & 0xffff0000u); }
// The same, where there is no register for the mask.
FASTRNN_INLINE Vec<float> high_halves_by_shifts(Vec<float> v) {
  return float_of(opaque(bits_of(v) >> 16) << 16);
}
FASTRNN_INLINE Vec<float> low_halves(Vec<float> v) { return float_of(bits_of(v) << 16); }

FASTRNN_INLINE Vec<float> widen(bfloat16, HalfBits bits) {
  return float_of(__builtin_convertvector(bits, FloatBits) << 16);
}
FASTRNN_INLINE HalfBits narrow(bfloat16, Vec<float> v) {
  const FloatBits bits = bits_of(v), rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const auto is_nan = v.raw != v.raw;
  return __builtin_convertvector((is_nan ? bits | 0x400000 : rounded) >> 16, HalfBits);
}

// The exponents of float16 are those of float less 112. Its subnormal numbers, and what rounds to
// them, go through a sum of floats with a power of two whose last bit is as much as theirs. (Levels
// with instructions for float16 do it by these, to the same bits.)
template <class Half> FASTRNN_INLINE Vec<float> widen_float16(Half half) {
  const FloatBits bits = __builtin_convertvector(half, FloatBits);
  const FloatBits sign = (bits & 0x8000) << 16, rest = (bits & 0x7fff) << 13;
  const FloatBits normal = rest + (112u << 23);
  const FloatBits tiny = bits_of(float_of(normal + (1u << 23)) - float_of(all_lanes(113u << 23)));
  const FloatBits infinite = normal + (112u << 23);
  const FloatBits quiet = rest > (31u << 23) ? infinite | 0x400000 : infinite;
  return float_of(sign | (rest >= (31u << 23) ? quiet : rest < (1u << 23) ? tiny : normal));
}
template <class V> FASTRNN_INLINE HalfBits narrow_float16(V v) {
  const FloatBits bits = bits_of(v), sign = (bits >> 16) & 0x8000, rest = bits & 0x7fffffff;
  const FloatBits normal = (rest - (112u << 23) + 0xfff + ((rest >> 13) & 1)) >> 13;
  const FloatBits half = all_lanes(126u << 23);  // of 1.0
  const FloatBits tiny = bits_of(float_of(rest) + float_of(half)) - half;
  const FloatBits quiet = 0x7e00 | ((rest >> 13) & 0x3ff);
  const FloatBits infinite = rest > (255u << 23) ? quiet : all_lanes(0x7c00);
  return __builtin_convertvector(sign | (rest >= (143u << 23)  ? infinite
                                         : rest < (113u << 23) ? tiny
                                                               : normal),
                                 HalfBits);
}
FASTRNN_INLINE Vec<float> widen(float16, HalfBits bits) { return widen_float16(bits); }
FASTRNN_INLINE HalfBits narrow(float16, Vec<float> v) { return narrow_float16(v); }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
