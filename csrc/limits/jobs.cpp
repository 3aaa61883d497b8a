// What is timed at one level. CMake compiles this file once for each, with FASTRNN_UNIT_LEVEL as
// cpu/kernel.cpp has it; like that file it includes neither the C++ library nor Python.
#include "../cells/gru.h"
#include "../cells/lstm.h"
#include "../cells/rnn.h"
#include "../simd/factors.h"
#include "../simd/math.h"
#include "limits.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

using V = Vec<float>;

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

// Makes the compiler believe that a vector is read and changed here: in its register, or where the
// level has wider vectors than the processor (`wide`) in memory.
template <class Register> FASTRNN_INLINE void keep_register(Register& r) {
  if constexpr (kVectorBytes > kRegisterBytes) {
    asm volatile("" : "+m"(r));
  } else {
#if defined(__x86_64__)
    asm volatile("" : "+x"(r));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(r));
#else
    asm volatile("" : "+m"(r));
#endif
  }
}
template <class T> FASTRNN_INLINE void keep(Vec<T>& v) { keep_register(v.raw); }
FASTRNN_INLINE void keep(Integers& v) { keep_register(v); }

constexpr int kChains = 10;  // 2 units x 4 cycles, and some room

// Chains of sums, none of which waits for another: sum = add(sum, a, b).
template <class Add, class Sum>
FASTRNN_INLINE void multiply_by(int64_t rounds, Sum one, Sum b, Add add) {
  Sum acc[kChains], a = one;
  for (auto& v : acc) v = one;
  keep(a);
  keep(b);
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) acc[c] = add(acc[c], a, b);
  Sum sum = acc[0];
  for (int c = 1; c < kChains; ++c) sum = sum + acc[c];
  keep(sum);
}
void multiply(int64_t rounds) {
  multiply_by(rounds, V(1.0f), V(0.5f), [](V sum, V a, V b) { return fma(sum, b, a); });
}

// The same with bfloat16: by the instruction for pairs where the level has it, else as floats.
constexpr bool kPairs = PairProduct<float>::kGiven;
void multiply_bfloat16(int64_t rounds) {
  if constexpr (kPairs)
    multiply_by(rounds, V(1.0f), V(0.5f),
                [](V sum, V a, V b) { return PairProduct<float>::add(sum, a, b); });
  else
    multiply(rounds);
}

// And with integers: four bytes at once where the level has it, else pairs of 16 bits.
constexpr bool kQuads = QuadProduct<Integers>::kGiven;
void multiply_int8(int64_t rounds) {
  const Integers one = 1 - Integers{};
  multiply_by(rounds, one, one, [](Integers sum, Integers a, Integers b) {
    keep(a);  // or a product would be made once for all rounds
    if constexpr (kQuads)
      return add_quad_products(sum, a, b);
    else
      return add_pair_products(sum, a, b);
  });
}

// Loads and nothing else, none waiting for another.
void read(const Line* from, int64_t lines, int64_t repeats) {
  constexpr int kLines = 8, L = V::kLanes;
  for (int64_t repeat = 0; repeat < repeats; ++repeat)
    for (int64_t i = 0; i + kLines <= lines; i += kLines)
#pragma GCC unroll 32
      for (int c = 0; c < kLines * kLineFloats / L; ++c) {
        const Line& line = from[i + c * L / kLineFloats];
        V v = V::load(line.values + c * L % kLineFloats);
        keep(v);
      }
}

template <class Cell> void steps(int64_t count) {
  const Exact m{};
  alignas(64) float h[V::kLanes] = {};
  Pack<V, Cell::kStates> s;
  for (int k = 0; k < Cell::kStates; ++k) s[k] = V(0.1f);
  V w(0.1f);
  keep(w);
  for (int64_t t = 0; t < count; ++t) {
    s[0].store(h);
    asm volatile("" : : "r"(h) : "memory");
    const V broadcast(h[0]);
    Pack<V, Cell::kGates> x, r;
    Pack<V, Cell::kSaved> save;
    for (int g = 0; g < Cell::kGates; ++g) {
      x[g] = r[g] = fma(broadcast, w, w);
      keep(x[g]);
    }
    Cell::forward(m, x, r, s, save);
  }
  keep(s[0]);
}

}  // namespace

extern const LimitJobs limit_jobs;
const LimitJobs limit_jobs = {
    FASTRNN_TEXT(FASTRNN_UNIT_LEVEL),
    2.0 * kChains * V::kLanes,
    multiply,
    (kPairs ? 4.0 : 2.0) * kChains * V::kLanes,
    multiply_bfloat16,
    (kQuads ? 8.0 : 4.0) * kChains * V::kLanes,
    multiply_int8,
    read,
    steps<Rnn<Tanh>>,
    steps<Lstm>,
    steps<Gru>,
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
