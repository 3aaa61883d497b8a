// gpu.h's primitives on the emulator, in plain C++.
#pragma once

#include <cmath>
#include <cstring>

#include "emulator.h"

#define FASTRNN_DEVICE inline
#define FASTRNN_KERNEL void
#define FASTRNN_THREADS(max)
#define FASTRNN_ARGUMENT const
#define FASTRNN_UNROLL
#define FASTRNN_ROLLED

namespace fastrnn {
namespace gpu {

FASTRNN_DEVICE int thread() { return emulation::this_thread().thread; }
FASTRNN_DEVICE int threads() { return emulation::this_thread().threads; }
FASTRNN_DEVICE int block() { return emulation::this_thread().block; }
FASTRNN_DEVICE int blocks() { return emulation::this_thread().blocks; }
FASTRNN_DEVICE char* shared_memory() { return emulation::this_thread().shared; }

FASTRNN_DEVICE void sync_block(const char* name) { emulation::sync_block(name); }
FASTRNN_DEVICE float shuffle_xor(float x, int mask, const char* name) {
  return emulation::exchange(x, name)[(thread() % kLanes) ^ mask];
}
FASTRNN_DEVICE void arrive(unsigned* counter, const char* name) {
  emulation::arrive(counter, name);
}
FASTRNN_DEVICE unsigned load_acquire(const unsigned* counter, const char* name) {
  return emulation::load_acquire(counter, name);
}
constexpr bool kHasClusters = true;
FASTRNN_DEVICE int cluster_blocks() { return emulation::this_thread().cluster_blocks; }
FASTRNN_DEVICE int cluster_rank() { return block() % cluster_blocks(); }
FASTRNN_DEVICE void sync_cluster(const char* name) { emulation::sync_cluster(name); }
template <class T> FASTRNN_DEVICE void store_remote(T* own, T value, int rank) {
  *static_cast<T*>(emulation::in_cluster(own, rank)) = value;
}

// What Arrivals hold: the number of phases that are complete, how many arrivals a phase takes, and
// how many the one under way still lacks.
struct PhaseState {
  uint32_t complete;
  uint16_t count, missing;
};
FASTRNN_DEVICE PhaseState phase_state(uint64_t word) {
  return {uint32_t(word >> 32), uint16_t(word >> 16), uint16_t(word)};
}
FASTRNN_DEVICE uint64_t arrivals_of(PhaseState s) {
  return uint64_t(s.complete) << 32 | uint32_t(s.count) << 16 | s.missing;
}
FASTRNN_DEVICE void init_arrivals(Arrivals* own, int count) {
  *own = arrivals_of({0, uint16_t(count), uint16_t(count)});
}
// Atomic for ThreadSanitizer, so that arrivals race with init_arrivals alone.
FASTRNN_DEVICE void arrive_at(Arrivals* own, int rank, const char* name) {
  auto* there = static_cast<Arrivals*>(emulation::in_cluster(own, rank));
  if (!emulation::arrives(there, name)) return;
  PhaseState state = phase_state(__atomic_load_n(there, __ATOMIC_RELAXED));
  if (--state.missing == 0) state = {state.complete + 1, state.count, state.count};
  __atomic_store_n(there, arrivals_of(state), __ATOMIC_RELAXED);
}
FASTRNN_DEVICE bool have_arrived(Arrivals* own, unsigned parity, const char* name) {
  const bool ordered = emulation::looks_in_order(name);
  const bool complete = phase_state(__atomic_load_n(own, __ATOMIC_RELAXED)).complete % 2 != parity;
  if (complete && ordered) emulation::acquire(own);
  return complete;
}

FASTRNN_DEVICE void pause() { emulation::pause(); }
// Between two polls every other thread goes as far as it can. Fewer polls than make the emulator
// say that no thread can go on.
constexpr unsigned kMaxPolls = 64;

template <class S> FASTRNN_DEVICE S exchange_load(const S* p) { return *p; }
template <class S> FASTRNN_DEVICE void exchange_store(S* p, S value) { *p = value; }

// Atomic for ThreadSanitizer, and no more: they order nothing, as on a GPU. A test that takes a
// store away drops it, one that takes a load away makes it a plain one.
FASTRNN_DEVICE void store_flagged(Flagged* to, Flagged value, const char* name) {
  if (emulation::takes_place(name)) __atomic_store(to, &value, __ATOMIC_RELAXED);
}
FASTRNN_DEVICE Flagged load_flagged(const Flagged* p, const char* name) {
  if (!emulation::looks_in_order(name)) return *p;
  Flagged value;
  __atomic_load(p, &value, __ATOMIC_RELAXED);
  return value;
}
FASTRNN_DEVICE FlaggedPair load_flagged(const FlaggedPair* p, const char* name) {
  return {load_flagged(&p->v[0], name), load_flagged(&p->v[1], name)};
}

// Fibers do not run at the same time, so no loop is needed. (ThreadSanitizer sees atomics.)
FASTRNN_DEVICE void record_error(DeviceError* to, int code, int64_t row, int64_t value) {
  int nothing = 0;
  if (!__atomic_compare_exchange_n(&to->code, &nothing, -1, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE))
    return;
  to->row = row;
  to->value = value;
  __atomic_store_n(&to->code, code, __ATOMIC_RELEASE);
}

FASTRNN_DEVICE void abandon(DeviceError* to, const char* name) {
  __atomic_store_n(&to->abandoned, name, __ATOMIC_RELEASE);
  emulation::trap();
}

FASTRNN_DEVICE float fused(float a, float b, float c) { return std::fma(a, b, c); }
FASTRNN_DEVICE double fused(double a, double b, double c) { return std::fma(a, b, c); }
FASTRNN_DEVICE float exponential(float x) { return std::exp(x); }
FASTRNN_DEVICE double exponential(double x) { return std::exp(x); }
FASTRNN_DEVICE float exponential_minus_1(float x) { return std::expm1(x); }
FASTRNN_DEVICE double exponential_minus_1(double x) { return std::expm1(x); }
FASTRNN_DEVICE float logarithm_of_1_plus(float x) { return std::log1p(x); }
FASTRNN_DEVICE double logarithm_of_1_plus(double x) { return std::log1p(x); }
FASTRNN_DEVICE float tangent(float x) { return std::tanh(x); }
FASTRNN_DEVICE double tangent(double x) { return std::tanh(x); }

FASTRNN_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
FASTRNN_DEVICE float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

FASTRNN_DEVICE float bfloat16_to_float(Bfloat16 x) { return float_of(uint32_t(x.bits) << 16); }
FASTRNN_DEVICE Bfloat16 bfloat16_from_float(float x) {
  const uint32_t bits = bits_of(x);
  if (std::isnan(x)) return {uint16_t(bits >> 16 | 0x40)};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};  // to the nearest, ties to even
}

FASTRNN_DEVICE float half_to_float(Half x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // As a float with 112 less in the exponent, which also makes subnormals right.
  return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
}
FASTRNN_DEVICE Half half_from_float(float x) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000;
  const float size = std::fabs(x);
  if (std::isnan(x)) return {uint16_t(sign | 0x7e00)};
  if (size >= 65520.0f) return {uint16_t(sign | 0x7c00)};
  // Adding 2^13 of the last place's unit rounds; below 2^-14 that unit is 2^-24.
  const uint32_t exponent = bits_of(size < 0x1p-14f ? 0x1p-14f : size) & 0x7f800000;
  const float magic = float_of(exponent + (13u << 23));
  const float rounded = (size + magic) - magic;
  return {uint16_t(sign | bits_of(rounded * 0x1p-112f) >> 13)};
}

// Each lane reads its own words of the rows that the others name.
template <int kMatrices>
FASTRNN_DEVICE void load_matrices(uint32_t (&to)[kMatrices], const void* row, const char* name) {
  static_assert(kMatrices == 2 || kMatrices == 4, "what ldmatrix has of these");
  const int lane = thread() % kLanes;
  if (lane < 8 * kMatrices) emulation::check_row(row, name);
  const void* const* rows = emulation::exchange(row, name);
  for (int i = 0; i < kMatrices; ++i)
    std::memcpy(&to[i], static_cast<const char*>(rows[8 * i + lane / 4]) + 4 * (lane % 4), 4);
}

template <class Tag> constexpr bool kHasTensorCores = true;
// The device may be said to have none.
template <class Tag> constexpr bool kMayLackTensorCores = true;

// The elements of a word of a fragment.
constexpr int elements_of_word(Tf32) { return 1; }
template <class Tag> constexpr int elements_of_word(Tag) { return 2; }
FASTRNN_DEVICE float element(Tf32, uint32_t word, int) { return float_of(word & ~0x1fffu); }
FASTRNN_DEVICE float element(Half, uint32_t word, int i) {
  return half_to_float({uint16_t(word >> 16 * i)});
}
FASTRNN_DEVICE float element(Bfloat16, uint32_t word, int i) {
  return bfloat16_to_float({uint16_t(word >> 16 * i)});
}

// What a lane has of the operands. A word holds neighbours in k; the four lanes of a group follow
// each other in k, and the words of a lane take rows first, then the second half of k.
struct Fragments {
  uint32_t a[4], b[2];
};
template <class Tag> struct Operands {
  static constexpr int kInWord = elements_of_word(Tag{}), kSize = 8 * kInWord;
  const Fragments* of;
  FASTRNN_DEVICE float a(int row, int k) const {
    return element(Tag{}, of[lane(row, k)].a[row / 8 + 2 * (k / (4 * kInWord))], k % kInWord);
  }
  FASTRNN_DEVICE float b(int k, int column) const {
    return element(Tag{}, of[lane(column, k)].b[k / (4 * kInWord)], k % kInWord);
  }
  FASTRNN_DEVICE static int lane(int group, int k) { return group % 8 * 4 + k / kInWord % 4; }
};

// Each sum is one chain in order of k. (A GPU's tensor cores have an order of their own.)
template <class Tag> FASTRNN_DEVICE void multiply_add(Tag, float (&d)[4], const uint32_t (&a)[4],
                                                      const uint32_t (&b)[2], const char* name) {
  const Operands<Tag> all{
      emulation::exchange(Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, name)};
  const int lane = thread() % kLanes;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < all.kSize; ++k) d[i] = fused(all.a(row, k), all.b(k, column), d[i]);
  }
}

FASTRNN_DEVICE float round_to_tf32(float x) {
  return std::isnan(x) ? x : float_of((bits_of(x) + 0x1000) & ~0x1fffu);
}

}  // namespace gpu
}  // namespace fastrnn
