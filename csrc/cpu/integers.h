// Products of integers of 8 bits: rows of float32 are rounded to whole multiples of a scale, that
// of the row, and multiplied with quantized weights, of which each row has a scale too.
//
//   q[k] = round(127 x[k] / bound)          ties to even
//   sum_k x[k] w[k]  is about  (scale_w sum_k q[k] q_w[k]) (bound / 127)
//
// bound is the largest |x[k]| of the row, or 1 where that is less and the row is of an h that stays
// within 1 by itself. A row with a NaN or an infinity gives NaN. Sums are of 32 bits, and exact: at
// most 65,000 products of numbers within 127, where one of each pair has 128 added, which an
// instruction wants unsigned. So every level gives the same integers, and from them the same
// floats.
#pragma once

#include "microkernel.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Weights of 8 bits. A lane has those of four neighbouring k.
struct int8 {};
template <> struct Stored<int8> {
  using Accumulator = float;
};
template <> constexpr bool is_scaled<int8> = true;

FASTRNN_INLINE Integers all_lanes_of(int32_t value) { return value - Integers{}; }

template <> struct Lanes<int8> {
  struct Type {
    uint8_t value[4];
  };
  using Element = int8_t;
  static constexpr int kValues = 4;
  static FASTRNN_INLINE Integers load(const Type* p) {
    Integers lanes;
    memcpy(&lanes, p, sizeof lanes);
    return lanes;
  }
  // Where the value of k is in a lane. A level that multiplies pairs takes the even bytes first.
  static constexpr int place(int k) {
    constexpr int kOfPairs[] = {0, 2, 1, 3};
    return QuadProduct<Integers>::kGiven ? k : kOfPairs[k];
  }
};

template <> struct LanePacking<int8> {
  static constexpr int L = Vec<float>::kLanes, kValues = Lanes<int8>::kValues;

  static void pack_block(const int8_t* w, int64_t row, int64_t col, int64_t units, int64_t K,
                         Lane<int8>* out, int64_t step) {
    for (int64_t k0 = 0; k0 < K; k0 += kValues, out += step)
      for (int64_t lane = 0; lane < L; ++lane)
        for (int i = 0; i < kValues; ++i) {
          const bool there = lane < units && k0 + i < K;
          const int value = there ? w[lane * row + (k0 + i) * col] : 0;
          out[lane].value[Lanes<int8>::place(i)] = static_cast<uint8_t>(value + 128);
        }
  }
};

// A row of factors: its scale, and where sums begin that have 128 times each factor too much. Then
// the factors, in as many bits as the level multiplies, filled up with zeros to whole lanes.
struct IntegerRow {
  float scale;
  int32_t begin;
};

template <bool quads> struct IntegerFactorOf {
  using Type = int16_t;
};
template <> struct IntegerFactorOf<true> {
  using Type = int8_t;
};
using IntegerFactor = IntegerFactorOf<QuadProduct<Integers>::kGiven>::Type;

constexpr int64_t kRowHeader = 16;  // bytes
FASTRNN_INLINE const IntegerRow& header_of(const void* row) {
  return *static_cast<const IntegerRow*>(row);
}
FASTRNN_INLINE const IntegerFactor* factors_after(const void* row) {
  return reinterpret_cast<const IntegerFactor*>(static_cast<const char*>(row) + kRowHeader);
}

template <> struct RowFactors<float, int8> {
  using Type = IntegerFactor;
  using V = Vec<float>;
  static constexpr bool kCopies = true;
  static constexpr int64_t L = V::kLanes;
  typedef Type Packed __attribute__((vector_size(L * sizeof(Type))));

  static int64_t bytes(int64_t n) {
    return kRowHeader + blocks_of(n * static_cast<int64_t>(sizeof(Type)), 64) * 64;
  }

  static const void* of(const void* row_, const void* mask_, int64_t n, float bound, void* copy) {
    const Values x{static_cast<const float*>(row_), static_cast<const float*>(mask_), n};
    const float most = x.largest();
    const float limit = most > bound ? most : bound, inverse = 127 / limit;
    // Not all are finite; or all are zeros, or so small that they may be taken for it.
    const float scale = most != most ? most : inverse > 3.4e38f ? 0 : limit / 127;
    const V factor(scale > 0 ? inverse : 0);
    char* to = static_cast<char*>(copy) + kRowHeader;
    Integers sum{};
    for (int64_t k = 0; k < n; k += L) {
      const Integers q = nearest(scale > 0 ? x.at(k) * factor : factor);
      sum += q;
      const Packed packed = __builtin_convertvector(q, Packed);
      memcpy(to, &packed, sizeof packed);
      to += sizeof packed;
    }
    int32_t total = 0;
    for (int i = 0; i < V::kLanes; ++i) total += sum[i];
    *static_cast<IntegerRow*>(copy) = {scale, -128 * total};
    return copy;
  }

 private:
  // Of a row, times a mask where there is one.
  struct Values {
    const float *row, *mask;
    int64_t n;

    FASTRNN_INLINE V at(int64_t k) const {
      const V v = load_some(row + k, min(L, n - k));
      return mask ? v * load_some(mask + k, min(L, n - k)) : v;
    }
    // The largest magnitude; NaN where one is no finite number.
    FASTRNN_INLINE float largest() const {
      V most(0.0f), check(0.0f);
      for (int64_t k = 0; k < n; k += L) {
        const V v = at(k);
        most = at_least(at_least(v, -v), most);
        check = fma(v, V(0.0f), check);
      }
      float found = 0, checked = 0;
      for (int i = 0; i < V::kLanes; ++i) {
        found = most.raw[i] > found ? most.raw[i] : found;
        checked += check.raw[i];
      }
      return found + checked;
    }
  };

  // Of numbers well below 2^22: what is added leaves the last bit of a float worth 1.
  static FASTRNN_INLINE Integers nearest(V v) {
    const V shift(12582912.0f);
    return (v + shift).bits() - shift.bits();
  }
};

using BytePairs = uint16_t __attribute__((vector_size(kVectorBytes)));

template <> struct Multiply<IntegerFactor, int8> {
  using V = Vec<float>;
  using Operand = Integers;
  using Sum = Integers;
  static constexpr bool kExact = true, kInPieces = true, kWholeLanes = true;
  static constexpr bool kQuads = QuadProduct<Integers>::kGiven;
  static constexpr bool kMasks = !kQuads;
  static constexpr int kParts = kQuads ? 1 : 2, kLastPart = 0;

  static FASTRNN_INLINE const IntegerFactor* values(const void* row) { return factors_after(row); }
  static FASTRNN_INLINE Sum begin(const void* row, const float*) {
    return all_lanes_of(header_of(row).begin);
  }
  static FASTRNN_INLINE Sum zero() { return Sum{}; }

  // A part is 32 bits of factors: all four, or two of them.
  template <int part> static FASTRNN_INLINE Operand left(const IntegerFactor* p) {
    int32_t factors;
    memcpy(&factors, p + 2 * part, sizeof factors);
    return all_lanes_of(factors);
  }
  template <int part> static FASTRNN_INLINE Operand right(Operand lanes) {
    if constexpr (kQuads) return lanes;
    const auto pairs = reinterpret_cast<BytePairs>(lanes);
    return reinterpret_cast<Operand>(part == 0 ? pairs & 0xff : pairs >> 8);
  }
  template <int part> static FASTRNN_INLINE Operand right_unmasked(Operand lanes) {
    if (part == 1) return right<part>(lanes);
    const auto upper = opaque(reinterpret_cast<BytePairs>(lanes) << 8);
    return reinterpret_cast<Operand>(upper >> 8);
  }
  static FASTRNN_INLINE Sum add(Sum sum, Operand left, Operand right) {
    if constexpr (kQuads)
      return add_quad_products(sum, right, left);
    else
      return add_pair_products(sum, left, right);
  }
  static FASTRNN_INLINE V end(Sum sum, const void* row, const float* init, const float* scales,
                              int64_t at) {
    // (The product of both scales may be infinite where a sum is zero.)
    const V scaled = V(__builtin_convertvector(sum, V::Raw)) * V::load(scales + at);
    return fma(scaled, V(header_of(row).scale), V::load(init));
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
