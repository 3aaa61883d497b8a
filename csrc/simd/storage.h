// The storage type S of arrays, and its accumulator type Acc<S>, in which the cell state, sums and
// all arithmetic are. float and double are their own; what is stored in 16 bits is widened to float
// when it is loaded, and rounded to the nearest, ties to even, when it is stored.
#pragma once

#include "narrow.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class S> struct Stored {
  using Accumulator = S;
  using V = Vec<S>;
  static constexpr char kKind = 'f';  // as View has it
  static FASTRNN_INLINE S widen(S x) { return x; }
  static FASTRNN_INLINE S narrow(S x) { return x; }
  static FASTRNN_INLINE V load(const S* p) { return V::load(p); }
  static FASTRNN_INLINE V load(const S* p, int64_t n) { return load_n(p, n); }
  static FASTRNN_INLINE void store(V v, S* p) { v.store(p); }
  static FASTRNN_INLINE void store(V v, S* p, int64_t n) { store_n(v, p, n); }
  static FASTRNN_INLINE V rounded(V v) { return v; }
};

template <class S> struct StoredNarrow {
  using Accumulator = float;
  using V = Vec<float>;
  static constexpr int64_t L = V::kLanes;
  static FASTRNN_INLINE float widen(S x) {
    return FASTRNN_ISA::widen(S{}, HalfBits{x.bits}).raw[0];
  }
  static FASTRNN_INLINE S narrow(float x) { return {FASTRNN_ISA::narrow(S{}, V(x))[0]}; }
  static FASTRNN_INLINE V load(const S* p) {
    HalfBits bits;
    memcpy(&bits, p, sizeof bits);
    return FASTRNN_ISA::widen(S{}, bits);
  }
  static FASTRNN_INLINE V load(const S* p, int64_t n) {
    S lanes[L] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static FASTRNN_INLINE void store(V v, S* p) {
    const HalfBits bits = FASTRNN_ISA::narrow(S{}, v);
    memcpy(p, &bits, sizeof bits);
  }
  static FASTRNN_INLINE void store(V v, S* p, int64_t n) {
    S lanes[L];
    store(v, lanes);
    for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
  }
  static FASTRNN_INLINE V rounded(V v) {
    return FASTRNN_ISA::widen(S{}, FASTRNN_ISA::narrow(S{}, v));
  }
};
template <> struct Stored<float16> : StoredNarrow<float16> {
  static constexpr char kKind = 'f';
};
template <> struct Stored<bfloat16> : StoredNarrow<bfloat16> {
  static constexpr char kKind = 'B';
};

template <class S> using Acc = typename Stored<S>::Accumulator;

template <class S> FASTRNN_INLINE Acc<S> widen(S x) { return Stored<S>::widen(x); }
template <class S> FASTRNN_INLINE S narrow(Acc<S> x) { return Stored<S>::narrow(x); }

// Load a vector from p or store it there: all lanes; with `part` the first n < kLanes lanes; with
// `some` the first n <= kLanes lanes.
template <class S> FASTRNN_INLINE Vec<Acc<S>> load(const S* p) { return Stored<S>::load(p); }
template <class S> FASTRNN_INLINE void store(Vec<Acc<S>> v, S* p) { Stored<S>::store(v, p); }
template <class S> FASTRNN_INLINE Vec<Acc<S>> load_part(const S* p, int64_t n) {
  return Stored<S>::load(p, n);
}
template <class S> FASTRNN_INLINE void store_part(Vec<Acc<S>> v, S* p, int64_t n) {
  Stored<S>::store(v, p, n);
}
template <class S> FASTRNN_INLINE Vec<Acc<S>> load_some(const S* p, int64_t n) {
  return n == Vec<Acc<S>>::kLanes ? load(p) : load_part(p, n);
}
template <class S> FASTRNN_INLINE void store_some(Vec<Acc<S>> v, S* p, int64_t n) {
  if (n == Vec<Acc<S>>::kLanes)
    store(v, p);
  else
    store_part(v, p, n);
}

template <class A, class B> constexpr bool is_same = false;
template <class A> constexpr bool is_same<A, A> = true;

// What storing leaves of a value.
template <class S> FASTRNN_INLINE Acc<S> rounded(Acc<S> x) { return widen(narrow<S>(x)); }
template <class S> FASTRNN_INLINE Vec<Acc<S>> rounded(Vec<Acc<S>> v) {
  return Stored<S>::rounded(v);
}

template <class S> FASTRNN_INLINE void narrow_to(Acc<S> x, S* to) { *to = narrow<S>(x); }
template <class S> FASTRNN_INLINE void widen_n(const S* from, int64_t n, Acc<S>* to) {
  constexpr int64_t L = Vec<Acc<S>>::kLanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) load(from + i).store(to + i);
  for (; i < n; ++i) to[i] = widen(from[i]);
}
template <class S> FASTRNN_INLINE void narrow_n(const Acc<S>* from, int64_t n, S* to) {
  constexpr int64_t L = Vec<Acc<S>>::kLanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(Vec<Acc<S>>::load(from + i), to + i);
  for (; i < n; ++i) to[i] = narrow<S>(from[i]);
}

template <int k> struct Index {
  static constexpr int value = k;
};
// use(Index<k>) for each of a cell's states.
template <int S, class Use> FASTRNN_INLINE void each_state(Use use) {
  static_assert(S == 1 || S == 2, "h, and at most a cell state");
  use(Index<0>{});
  if constexpr (S > 1) use(Index<1>{});
}

template <class S, int k> struct StateTypeOf {
  using Type = Acc<S>;
};
template <class S> struct StateTypeOf<S, 0> {
  using Type = S;
};
template <class S, int k> using StateType = typename StateTypeOf<S, k>::Type;

// Something for each state of a cell: h is of the storage type, the cell state (an LSTM's c) of the
// accumulator type.
template <template <class> class Of, class S> struct PerState {
  Of<S> h;
  Of<Acc<S>> cell_state;

  FASTRNN_INLINE Of<S>& at(Index<0>) { return h; }
  FASTRNN_INLINE Of<Acc<S>>& at(Index<1>) { return cell_state; }
  FASTRNN_INLINE const Of<S>& at(Index<0>) const { return h; }
  FASTRNN_INLINE const Of<Acc<S>>& at(Index<1>) const { return cell_state; }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
