// The value type of the kernels: `Vec<T>` is one SIMD register of T at the level this unit is built
// for. Cells and maths are templates over it; only what an instruction set does better than GCC's
// vector extensions stands in vec_<level>.h.
//
// A unit is compiled with FASTRNN_UNIT_LEVEL, the name of a row of levels.def, and that row's
// flags. Everything here lives inside the level's namespace, isa_<level>, so that no symbol of one
// level can ever stand in for another level's.
#pragma once

#include <stdint.h>

#define FASTRNN_PASTE_(a, b) a##b
#define FASTRNN_PASTE(a, b) FASTRNN_PASTE_(a, b)
#define FASTRNN_TEXT_(text) #text
#define FASTRNN_TEXT(text) FASTRNN_TEXT_(text)
#define FASTRNN_ISA FASTRNN_PASTE(isa_, FASTRNN_UNIT_LEVEL)

#define FASTRNN_INLINE inline __attribute__((always_inline))

// Registers stay registers only if the loops over them are unrolled early; g++ 11 has to be told.
#define FASTRNN_UNROLL _Pragma("GCC unroll 8")

namespace fastrnn {
namespace FASTRNN_ISA {

// Facts of this unit's level, of all rows' as they are read.
struct LevelFacts {
  int bytes, registers;
};
#define FASTRNN_LEVEL(name, architecture, use, bytes, registers, elements, flags, probe) \
  constexpr LevelFacts facts_##name = {bytes, registers};
#include "levels.def"
#undef FASTRNN_LEVEL
constexpr int kVectorBytes = FASTRNN_PASTE(facts_, FASTRNN_UNIT_LEVEL).bytes;
constexpr int kRegisters = FASTRNN_PASTE(facts_, FASTRNN_UNIT_LEVEL).registers;

// The compiler's vector types. (GCC drops vector_size where it depends on a template parameter.)
template <class T> struct Register;
template <> struct Register<float> {
  typedef float Raw __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Bits __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <> struct Register<double> {
  typedef double Raw __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Bits __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};

// Half a register: as many numbers of 16 bits as a vector of floats has lanes; see narrow.h.
typedef uint16_t HalfBits __attribute__((vector_size(kVectorBytes / 2)));

template <class T> struct Vec {
  static constexpr int kLanes = kVectorBytes / sizeof(T);
  using Scalar = T;
  using Raw = typename Register<T>::Raw;
  using Bits = typename Register<T>::Bits;
  using Unaligned = typename Register<T>::Unaligned;

  Raw raw;

  Vec() = default;
  FASTRNN_INLINE Vec(Raw r) : raw(r) {}
  // s - 0, not s + 0, which would turn -0 into +0 (and would not fold away).
  FASTRNN_INLINE explicit Vec(T s) : raw(s - Raw{}) {}

  static FASTRNN_INLINE Vec load(const T* p) { return Vec(*reinterpret_cast<const Unaligned*>(p)); }
  FASTRNN_INLINE void store(T* p) const { *reinterpret_cast<Unaligned*>(p) = raw; }

  friend FASTRNN_INLINE Vec operator+(Vec a, Vec b) { return a.raw + b.raw; }
  friend FASTRNN_INLINE Vec operator-(Vec a, Vec b) { return a.raw - b.raw; }
  friend FASTRNN_INLINE Vec operator*(Vec a, Vec b) { return a.raw * b.raw; }
  friend FASTRNN_INLINE Vec operator/(Vec a, Vec b) { return a.raw / b.raw; }
  friend FASTRNN_INLINE Vec operator-(Vec a) { return -a.raw; }
  friend FASTRNN_INLINE Bits operator<(Vec a, Vec b) { return a.raw < b.raw; }
  friend FASTRNN_INLINE Bits operator<=(Vec a, Vec b) { return a.raw <= b.raw; }
  friend FASTRNN_INLINE Bits operator>(Vec a, Vec b) { return a.raw > b.raw; }
  // mask ? a : b, lane by lane; a mask is what a comparison returns.
  friend FASTRNN_INLINE Vec select(Bits mask, Vec a, Vec b) { return mask ? a.raw : b.raw; }

  FASTRNN_INLINE Bits bits() const { return reinterpret_cast<Bits>(raw); }
  static FASTRNN_INLINE Vec from_bits(Bits b) { return Vec(reinterpret_cast<Raw>(b)); }
};

// What a level need not do better than this: an overload of its own, being no template, replaces
// it. (Its header must have fma().)

// The smaller of x and limit; x where it is NaN.
template <class T> FASTRNN_INLINE Vec<T> at_most(Vec<T> x, Vec<T> limit) {
  return select(x > limit, limit, x);
}
// The larger of x and limit; x where it is NaN.
template <class T> FASTRNN_INLINE Vec<T> at_least(Vec<T> x, Vec<T> limit) {
  return select(x < limit, limit, x);
}

// The first n lanes from p, the others 0; nothing past p[n - 1] is read.
template <class T> FASTRNN_INLINE Vec<T> load_n(const T* p, int64_t n) {
  typename Vec<T>::Raw r{};
  for (int i = 0; i < Vec<T>::kLanes; ++i)
    if (i < n) r[i] = p[i];
  return r;
}

// The first n lanes to p; nothing past p[n - 1] is written.
template <class T> FASTRNN_INLINE void store_n(Vec<T> v, T* p, int64_t n) {
  for (int i = 0; i < Vec<T>::kLanes; ++i)
    if (i < n) p[i] = v.raw[i];
}

// Lane j of vector i and lane i of vector j change places.
template <class T, int n> FASTRNN_INLINE void transpose(Vec<T> (&v)[n]) {
  static_assert(n == Vec<T>::kLanes, "as many vectors as lanes");
  T lanes[n][n];
  for (int i = 0; i < n; ++i) v[i].store(lanes[i]);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < i; ++j) {
      const T below = lanes[i][j];
      lanes[i][j] = lanes[j][i];
      lanes[j][i] = below;
    }
  for (int i = 0; i < n; ++i) v[i] = Vec<T>::load(lanes[i]);
}

// Columns that are loaded at once from a matrix whose rows become lanes: 128 bits of each row.
template <class T> constexpr int kStrip = 16 / sizeof(T);

// As many rows as lanes, from p on, `row` elements apart: lane i of vector k is element k of row i.
template <class T> FASTRNN_INLINE void load_strip(const T* p, int64_t row, Vec<T> (&v)[kStrip<T>]) {
  constexpr int L = Vec<T>::kLanes;
  T columns[kStrip<T>][L];
  for (int lane = 0; lane < L; ++lane)
    for (int k = 0; k < kStrip<T>; ++k) columns[k][lane] = p[lane * row + k];
  for (int k = 0; k < kStrip<T>; ++k) v[k] = Vec<T>::load(columns[k]);
}

// The same of rows of numbers of 16 bits, two of which are a lane.
template <class U>
FASTRNN_INLINE void load_pair_strip(const U* p, int64_t row, Vec<float> (&v)[kStrip<float>]) {
  constexpr int L = Vec<float>::kLanes;
  U columns[kStrip<float>][L][2];
  for (int lane = 0; lane < L; ++lane)
    for (int k = 0; k < 2 * kStrip<float>; ++k) columns[k / 2][lane][k % 2] = p[lane * row + k];
  for (int k = 0; k < kStrip<float>; ++k) __builtin_memcpy(&v[k].raw, columns[k], sizeof v[k].raw);
}

// Products of pairs of numbers of bfloat16: to each lane of `sum` that of those in the high halves
// of the lanes of a and b is added, then that of the low halves, each with one rounding. A level
// that has an instruction for it specialises this.
template <class T> struct PairProduct {
  static constexpr bool kGiven = false;
  static FASTRNN_INLINE Vec<T> add(Vec<T> sum, Vec<T> a, Vec<T> b) {
    sum = fma(high_halves(a), high_halves(b), sum);
    return fma(low_halves(a), low_halves(b), sum);
  }
};

// Integers of 32 bits, as many as a vector of floats has lanes.
using Integers = Vec<float>::Bits;

// sum, and in each lane the products of the low halves of a and b, and of the high ones, as signed
// numbers.
template <class I> FASTRNN_INLINE I add_pair_products(I sum, I a, I b) {
  return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
}

// The same of four bytes of each lane, those of a unsigned and those of b signed, at a level that
// has an instruction for it.
template <class I> struct QuadProduct {
  static constexpr bool kGiven = false;
};
template <class I> FASTRNN_INLINE I add_quad_products(I sum, I a, I b) {
  return QuadProduct<I>::add(sum, a, b);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn

// clang-format off: it would put a blank before `.h`.
#include FASTRNN_TEXT(FASTRNN_PASTE(vec_, FASTRNN_UNIT_LEVEL).h)
// clang-format on
