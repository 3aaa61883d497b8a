// AVX-512 with the products of bfloat16 (BF16).
#pragma once

#include "vec_avx512vnni.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// (The instruction takes subnormal numbers for zeros, and makes none, whatever the control register
// says.)
template <> struct PairProduct<float> {
  static constexpr bool kGiven = true;
  static FASTRNN_INLINE Vec<float> add(Vec<float> sum, Vec<float> a, Vec<float> b) {
    return _mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw),
                            reinterpret_cast<__m512bh>(b.raw));
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
