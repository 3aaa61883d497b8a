// What a product is made of: rows of left factors, of type A, and lanes of right factors, which are
// of the storage type B.
//
// A lane of right factors holds Lanes<B>::kValues values of neighbouring k. One, but for bfloat16,
// of which an instruction multiplies pairs: there a lane of 32 bits has k in its low half and k + 1
// in its high one, as a row of left factors has them in memory. The pair is multiplied high half
// first, at every level, so that a level without the instruction (which widens either half, a part
// of the product after the other) has the same chains.
#pragma once

#include "storage.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// The type of left factors of a storage type: what rows are widened to before a product reads them
// many times, or the storage type itself where the product takes it as it is.
template <class S> struct FactorOf {
  using Type = Acc<S>;
};
template <bool pairs> struct FactorOfPairs {
  using Type = float;
};
template <> struct FactorOfPairs<true> {
  using Type = bfloat16;
};
template <> struct FactorOf<bfloat16> : FactorOfPairs<PairProduct<float>::kGiven> {};
template <class S> using Factor = typename FactorOf<S>::Type;

template <class S> FASTRNN_INLINE void to_factors(const S* from, int64_t n, Factor<S>* to) {
  if constexpr (is_same<S, Factor<S>>)
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
  else
    widen_n(from, n, to);
}
// A value of which a factor is made, as it is where it is stored.
template <class S> FASTRNN_INLINE Factor<S> factor_of(Acc<S> x) {
  if constexpr (is_same<S, Factor<S>>)
    return narrow<S>(x);
  else
    return rounded<S>(x);
}

// What a mask leaves of a row, whose values are stored or are factors.
template <class S, class U>
FASTRNN_INLINE void mask_factors(const U* from, const S* mask, int64_t n, Factor<S>* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = factor_of<S>(widen(from[i]) * widen(mask[i]));
}
// The factors of a row: itself, or a copy, which is masked where there is a mask.
template <class S> FASTRNN_INLINE const Factor<S>* factors_of_row(const S* row, const S* mask,
                                                                  int64_t n, Factor<S>* copy) {
  if constexpr (is_same<S, Factor<S>>)
    if (!mask) return row;
  if (mask)
    mask_factors(row, mask, n, copy);
  else
    to_factors(row, n, copy);
  return copy;
}

// What forward multiplies of rows of type S with weights of type W.
template <class S, class W> struct RowFactors {
  using Type = Factor<S>;
  static constexpr bool kCopies = !is_same<S, Type>;
  static int64_t bytes(int64_t n) { return n * static_cast<int64_t>(sizeof(Type)); }
  static const void* of(const void* row, const void* mask, int64_t n, float, void* copy) {
    return factors_of_row(static_cast<const S*>(row), static_cast<const S*>(mask), n,
                          static_cast<Type*>(copy));
  }
};

// Lanes of one value.
template <class S> struct Lanes {
  using Type = S;
  using Element = S;
  using V = Vec<Acc<S>>;
  static constexpr int kValues = 1;
  static FASTRNN_INLINE V load(const S* p) { return FASTRNN_ISA::load(p); }
  static FASTRNN_INLINE void store(V v, S* p) { FASTRNN_ISA::store(v, p); }
  // The first n values of a row, zeros after them.
  static FASTRNN_INLINE V of_row(const S* p, int64_t n) { return load_some(p, n); }
  // As many rows as lanes, `row` elements apart: what is first in each, and so on.
  static FASTRNN_INLINE void strip(const S* p, int64_t row, V (&v)[kStrip<Acc<S>>]) {
    if constexpr (is_same<S, Acc<S>>) {
      load_strip(p, row, v);
    } else {
      constexpr int64_t n = kStrip<Acc<S>>;
      Acc<S> values[V::kLanes * n];
      for (int64_t lane = 0; lane < V::kLanes; ++lane)
        for (int64_t k = 0; k < n; ++k) values[lane * n + k] = widen(p[lane * row + k]);
      load_strip(values, n, v);
    }
  }
  // Value i of a lane.
  static FASTRNN_INLINE S& at(S* lane, int) { return *lane; }
};

template <> struct Lanes<bfloat16> {
  struct Type {
    bfloat16 value[2];
  };
  using Element = bfloat16;
  using V = Vec<float>;
  static constexpr int kValues = 2;
  static FASTRNN_INLINE V load(const Type* p) {
    V v;
    memcpy(&v.raw, p, sizeof v.raw);
    return v;
  }
  static FASTRNN_INLINE void store(V v, Type* p) { memcpy(p, &v.raw, sizeof v.raw); }
  static FASTRNN_INLINE V of_row(const bfloat16* p, int64_t n) {
    bfloat16 lanes[2 * V::kLanes] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
    V v;
    memcpy(&v.raw, lanes, sizeof v.raw);
    return v;
  }
  static FASTRNN_INLINE void strip(const bfloat16* p, int64_t row, V (&v)[kStrip<float>]) {
    load_pair_strip(&p->bits, row, v);
  }
  static FASTRNN_INLINE bfloat16& at(Type* lane, int i) { return lane->value[i]; }
};

// Are the sums of products with such right factors multiplied by scales?
template <class W> constexpr bool is_scaled = false;

template <class S> using Lane = typename Lanes<S>::Type;
// What a matrix of right factors holds before it is packed.
template <class S> using Element = typename Lanes<S>::Element;
// Lanes that K values of a row of right factors take.
template <class S> FASTRNN_INLINE constexpr int64_t lanes_of(int64_t K) {
  return (K + Lanes<S>::kValues - 1) / Lanes<S>::kValues;
}

// How left factors of type A are multiplied with right ones of type B.
//
// A sum begins with begin(row, init) or zero(); add() gives sum + left * right, in kParts parts one
// after the other; and end(sum, row, init, scales, at) gives what it is worth.
// values(row): the left factors of a row. left(p): the factor at p, for all lanes, and with it
// those of the other values of a lane. last(p): where the last lane has one value; the parts from
// kLastPart on. kWholeLanes: rows are filled up to whole lanes. kExact: sums are integers.
// kInPieces: may a sum be made of several? kMasks: right() wants a register for a constant, and
// right_unmasked() gives the same without.
template <class A, class B> struct MultiplyInFloats {
  using T = Acc<B>;
  using Operand = Vec<T>;
  using Sum = Vec<T>;
  static constexpr bool kExact = false, kInPieces = true, kMasks = false;
  static constexpr bool kWholeLanes = Lanes<B>::kValues == 1;
  static FASTRNN_INLINE const A* values(const void* row) { return static_cast<const A*>(row); }
  static FASTRNN_INLINE Sum begin(const void*, const T* init) { return Sum::load(init); }
  static FASTRNN_INLINE Sum zero() { return Sum(T(0)); }
  static FASTRNN_INLINE Sum end(Sum sum, const void*, const T*, const T*, int64_t) { return sum; }
};

template <class A, class B> struct Multiply : MultiplyInFloats<A, B> {
  using V = Vec<Acc<B>>;
  static constexpr int kParts = 1, kLastPart = 0;
  template <int part> static FASTRNN_INLINE V left(const A* p) { return V(widen(*p)); }
  template <int part> static FASTRNN_INLINE V last(const A* p) { return left<part>(p); }
  template <int part> static FASTRNN_INLINE V right(V lanes) { return lanes; }
  static FASTRNN_INLINE V add(V sum, V left, V right) { return fma(left, right, sum); }
};

template <> struct Multiply<float, bfloat16> : MultiplyInFloats<float, bfloat16> {
  using V = Vec<float>;
  static constexpr bool kMasks = true;
  static constexpr int kParts = 2, kLastPart = 1;
  template <int part> static FASTRNN_INLINE V left(const float* p) { return V(p[1 - part]); }
  template <int part> static FASTRNN_INLINE V last(const float* p) { return V(p[0]); }
  template <int part> static FASTRNN_INLINE V right(V lanes) {
    return part == 0 ? high_halves(lanes) : low_halves(lanes);
  }
  template <int part> static FASTRNN_INLINE V right_unmasked(V lanes) {
    return part == 0 ? high_halves_by_shifts(lanes) : low_halves(lanes);
  }
  static FASTRNN_INLINE V add(V sum, V left, V right) { return fma(left, right, sum); }
};

template <> struct Multiply<bfloat16, bfloat16> : MultiplyInFloats<bfloat16, bfloat16> {
  using V = Vec<float>;
  static constexpr int kParts = 1, kLastPart = 0;
  template <int part> static FASTRNN_INLINE V left(const bfloat16* p) {
    uint32_t pair;
    memcpy(&pair, p, sizeof pair);
    return float_of(all_lanes(pair));
  }
  // What there is not is -0: a product with it changes no sum.
  template <int part> static FASTRNN_INLINE V last(const bfloat16* p) {
    return float_of(all_lanes(0x80000000u | p->bits));
  }
  template <int part> static FASTRNN_INLINE V right(V lanes) { return lanes; }
  static FASTRNN_INLINE V add(V sum, V left, V right) {
    return PairProduct<float>::add(sum, left, right);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
