// gpu.h's primitives as CUDA has them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#define FASTRNN_DEVICE __device__ __forceinline__
#define FASTRNN_KERNEL __global__ void
#define FASTRNN_THREADS(max) __launch_bounds__(max, 1)
#define FASTRNN_ARGUMENT const __grid_constant__
// Whole: arrays indexed by the loop then are registers.
#define FASTRNN_UNROLL _Pragma("unroll")

namespace fastrnn {
namespace gpu {

FASTRNN_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
FASTRNN_DEVICE int threads() { return static_cast<int>(blockDim.x); }
FASTRNN_DEVICE int block() { return static_cast<int>(blockIdx.x); }
FASTRNN_DEVICE int blocks() { return static_cast<int>(gridDim.x); }

FASTRNN_DEVICE char* shared_memory() {
  extern __shared__ int4 fastrnn_shared[];  // a type of 16 bytes, for its alignment
  return reinterpret_cast<char*>(fastrnn_shared);
}

FASTRNN_DEVICE void sync_block(const char*) { __syncthreads(); }

// The value of the lane whose number differs in the bits of mask; all 32 lanes take part.
FASTRNN_DEVICE float shuffle_xor(float x, int mask, const char*) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}

// Releases what this thread has written or observed, then counts.
FASTRNN_DEVICE void arrive(unsigned* counter, const char*) {
  asm volatile("fence.acq_rel.gpu;\n\tred.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(counter)
               : "memory");
}
FASTRNN_DEVICE unsigned load_acquire(const unsigned* counter, const char*) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}
FASTRNN_DEVICE void pause() {
  // Waits at a barrier are short: to spin is quicker than to sleep.
}
constexpr unsigned kMaxPolls = 1u << 23;  // a poll takes about a microsecond: some seconds

// Values that other blocks write while this kernel runs: from L2, where they are exchanged, and not
// through the read-only path.
FASTRNN_DEVICE float exchange_load(const float* p) { return __ldcg(p); }
FASTRNN_DEVICE double exchange_load(const double* p) { return __ldcg(p); }
template <class S> FASTRNN_DEVICE S exchange_load(const S* p) {
  S value;
  value.bits = __ldcg(&p->bits);
  return value;
}
FASTRNN_DEVICE uint2 exchange_bits(const uint2* p) { return __ldcg(p); }
FASTRNN_DEVICE uint4 exchange_bits(const uint4* p) { return __ldcg(p); }
template <class S> FASTRNN_DEVICE Quad<S> exchange_load(const Quad<S>* p) {
  using Bits = typename std::conditional<sizeof(S) == 4, uint4, uint2>::type;
  const Bits bits = exchange_bits(reinterpret_cast<const Bits*>(p));
  Quad<S> quad;
  memcpy(&quad, &bits, sizeof quad);
  return quad;
}
template <class S> FASTRNN_DEVICE void exchange_store(S* p, S value) { *p = value; }

// Records the first error that a thread finds, its code last, for the host to read at any time.
FASTRNN_DEVICE void record_error(DeviceError* to, int code, int64_t row, int64_t value) {
  if (atomicCAS(&to->code, 0, -1) != 0) return;
  to->row = row;
  to->value = value;
  __threadfence_system();
  *const_cast<volatile int*>(&to->code) = code;
}

// Ends the kernel, and by CUDA's rules all work of this process on the device; says first which
// kernel it was.
FASTRNN_DEVICE void abandon(DeviceError* to, const char* name) {
  *const_cast<const char* volatile*>(&to->abandoned) = name;
  __threadfence_system();
  __trap();
}

FASTRNN_DEVICE float fused(float a, float b, float c) { return fmaf(a, b, c); }
FASTRNN_DEVICE double fused(double a, double b, double c) { return ::fma(a, b, c); }
FASTRNN_DEVICE float exponential(float x) { return expf(x); }
FASTRNN_DEVICE double exponential(double x) { return ::exp(x); }
FASTRNN_DEVICE float exponential_minus_1(float x) { return expm1f(x); }
FASTRNN_DEVICE double exponential_minus_1(double x) { return ::expm1(x); }
FASTRNN_DEVICE float logarithm_of_1_plus(float x) { return log1pf(x); }
FASTRNN_DEVICE double logarithm_of_1_plus(double x) { return ::log1p(x); }
FASTRNN_DEVICE float tangent(float x) { return tanhf(x); }
FASTRNN_DEVICE double tangent(double x) { return ::tanh(x); }

FASTRNN_DEVICE float half_to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }
FASTRNN_DEVICE Half half_from_float(float x) { return Half{__half_as_ushort(__float2half_rn(x))}; }
FASTRNN_DEVICE float bfloat16_to_float(Bfloat16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
FASTRNN_DEVICE Bfloat16 bfloat16_from_float(float x) {
  return Bfloat16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

}  // namespace gpu
}  // namespace fastrnn
