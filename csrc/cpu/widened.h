// Products of rows of float32 with weights of 8 bits that are widened in registers: rows stay as
// they are, and a step reads a quarter of the bytes. A sum is multiplied by the scale of its row at
// its end, and is one chain, so that it is so once.
#pragma once

#include "microkernel.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Weights of 8 bits, one of which is a lane.
struct widened_int8 {};
template <> struct Stored<widened_int8> {
  using Accumulator = float;
};
template <> constexpr bool is_scaled<widened_int8> = true;

template <> struct Lanes<widened_int8> {
  using Type = int8_t;
  using Element = int8_t;
  using V = Vec<float>;
  typedef int8_t Bytes __attribute__((vector_size(V::kLanes)));
  static constexpr int kValues = 1;
  static FASTRNN_INLINE V load(const Type* p) {
    Bytes bytes;
    memcpy(&bytes, p, sizeof bytes);
    return V(__builtin_convertvector(__builtin_convertvector(bytes, Integers), V::Raw));
  }
};

template <> struct LanePacking<widened_int8> {
  static constexpr int L = Vec<float>::kLanes;

  static void pack_block(const int8_t* w, int64_t row, int64_t col, int64_t units, int64_t K,
                         int8_t* out, int64_t step) {
    for (int64_t k = 0; k < K; ++k, out += step)
      for (int64_t lane = 0; lane < L; ++lane)
        out[lane] = lane < units ? w[lane * row + k * col] : int8_t{0};
  }
};

template <> struct Multiply<float, widened_int8> : MultiplyInFloats<float, widened_int8> {
  using V = Vec<float>;
  static constexpr bool kInPieces = false;
  static constexpr int kParts = 1, kLastPart = 0;
  static FASTRNN_INLINE Sum begin(const void*, const float*) { return zero(); }
  template <int part> static FASTRNN_INLINE V left(const float* p) { return V(*p); }
  template <int part> static FASTRNN_INLINE V right(V lanes) { return lanes; }
  static FASTRNN_INLINE V add(V sum, V left, V right) { return fma(left, right, sum); }
  static FASTRNN_INLINE V end(Sum sum, const void*, const float* init, const float* scales,
                              int64_t at) {
    return fma(sum, V::load(scales + at), V::load(init));
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
