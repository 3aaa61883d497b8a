// AVX-512 with the products of bytes (VNNI).
#pragma once

#include "vec_avx512.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <> struct QuadProduct<Integers> {
  static constexpr bool kGiven = true;
  static FASTRNN_INLINE Integers add(Integers sum, Integers a, Integers b) {
    return reinterpret_cast<Integers>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum),
                                                          reinterpret_cast<__m512i>(a),
                                                          reinterpret_cast<__m512i>(b)));
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
