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

namespace fastrnn {
namespace gpu {

FASTRNN_DEVICE int thread() { return emulation::this_thread().thread; }
FASTRNN_DEVICE int threads() { return emulation::this_thread().threads; }
FASTRNN_DEVICE int block() { return emulation::this_thread().block; }
FASTRNN_DEVICE int blocks() { return emulation::this_thread().blocks; }
FASTRNN_DEVICE char* shared_memory() { return emulation::this_thread().shared; }

FASTRNN_DEVICE void sync_block(const char* name) { emulation::sync_block(name); }
FASTRNN_DEVICE float shuffle_xor(float x, int mask, const char* name) {
  return emulation::shuffle_xor(x, mask, name);
}
FASTRNN_DEVICE void arrive(unsigned* counter, const char* name) {
  emulation::arrive(counter, name);
}
FASTRNN_DEVICE unsigned load_acquire(const unsigned* counter, const char* name) {
  return emulation::load_acquire(counter, name);
}
FASTRNN_DEVICE void pause() { emulation::pause(); }
// Between two polls every other thread goes as far as it can. Fewer polls than make the emulator
// say that no thread can go on.
constexpr unsigned kMaxPolls = 64;

template <class S> FASTRNN_DEVICE S exchange_load(const S* p) { return *p; }
template <class S> FASTRNN_DEVICE void exchange_store(S* p, S value) { *p = value; }

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

}  // namespace gpu
}  // namespace fastrnn
