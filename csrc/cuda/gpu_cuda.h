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
// Once: a loop whose number of turns the compiler would guess, at the price of registers.
#define FASTRNN_ROLLED _Pragma("unroll 1")

namespace fastrnn {
namespace gpu {

// The compute capability that is compiled for, times 100. The host's pass has none, and no code of
// the device.
#if defined(__CUDA_ARCH__)
constexpr int kCapability = __CUDA_ARCH__;
#else
constexpr int kCapability = 0;
#endif

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

// Where shared memory is asked for by a number.
FASTRNN_DEVICE unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Reads matrices of 8 rows of 16 bytes from shared memory; all 32 lanes take part. Lane l gives row
// l % 8 of matrix l / 8, aligned to 16 bytes; of two matrices lanes 0 to 15 alone count. Of matrix
// i each lane receives the 4 bytes from 4 * (lane % 4) on of row lane / 4.
FASTRNN_DEVICE void load_matrices(uint32_t (&to)[4], const void* row, const char*) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
FASTRNN_DEVICE void load_matrices(uint32_t (&to)[2], const void* row, const char*) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(shared_address(row))
               : "memory");
}

// Whether multiply_add exists for elements of this type where this is compiled for.
template <class Tag> constexpr bool kHasTensorCores =
    std::is_same<Tag, Half>::value ? kCapability >= 750 : kCapability >= 800;
// Whether what is compiled here may run where there is none.
template <class Tag> constexpr bool kMayLackTensorCores = !kHasTensorCores<Tag>;

// d += a b by tensor cores; all 32 lanes take part. The fragments are those of mma.m16n8k16 of 16
// bits, and of m16n8k8 of Tf32. What has no such tensor cores compiles, and traps.
#define FASTRNN_MULTIPLY_ADD(form)                                                \
  asm volatile("mma.sync.aligned." form                                           \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
FASTRNN_DEVICE void multiply_add_k8(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(b));
}
FASTRNN_DEVICE void multiply_add(Half, float (&d)[4], const uint32_t (&a)[4],
                                 const uint32_t (&b)[2], const char*) {
  if constexpr (kCapability >= 800) {
    FASTRNN_MULTIPLY_ADD("m16n8k16.row.col.f32.f16.f16.f32");
  } else {
    multiply_add_k8(d, a[0], a[1], b[0]);
    multiply_add_k8(d, a[2], a[3], b[1]);
  }
}
FASTRNN_DEVICE void multiply_add(Bfloat16, float (&d)[4], const uint32_t (&a)[4],
                                 const uint32_t (&b)[2], const char*) {
  if constexpr (kHasTensorCores<Bfloat16>)
    FASTRNN_MULTIPLY_ADD("m16n8k16.row.col.f32.bf16.bf16.f32");
  else
    __trap();
}
FASTRNN_DEVICE void multiply_add(Tf32, float (&d)[4], const uint32_t (&a)[4],
                                 const uint32_t (&b)[2], const char*) {
  if constexpr (kHasTensorCores<Tf32>)
    FASTRNN_MULTIPLY_ADD("m16n8k8.row.col.f32.tf32.tf32.f32");
  else
    __trap();
}
#undef FASTRNN_MULTIPLY_ADD

// To the nearest that Tf32 has, ties away from zero; the value itself where there is no Tf32.
FASTRNN_DEVICE float round_to_tf32(float x) {
  if constexpr (kHasTensorCores<Tf32>) {
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
  } else {
    return x;
  }
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

// ---- clusters -----------------------------------------------------------------------------------
//
// Blocks that follow each other and see each other's shared memory. All of this compiles where
// there are none, and traps.

constexpr bool kHasClusters = kCapability >= 900;

FASTRNN_DEVICE int cluster_blocks() {
  int count = 0;
  if constexpr (kHasClusters)
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
  else
    __trap();
  return count;
}
FASTRNN_DEVICE int cluster_rank() {
  int rank = 0;
  if constexpr (kHasClusters)
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  else
    __trap();
  return rank;
}

// All threads of the cluster, warp by warp; orders what they have done to memory. Before it no
// block may reach into another, which may not have begun, and after its last one no block may, for
// the other may have ended.
FASTRNN_DEVICE void sync_cluster(const char*) {
  if constexpr (kHasClusters)
    asm volatile(
        "barrier.cluster.arrive.release.aligned;\n\t"
        "barrier.cluster.wait.acquire.aligned;" ::
            : "memory");
  else
    __trap();
}

// The same place in the shared memory of the cluster's block `rank`.
FASTRNN_DEVICE unsigned remote_address(const void* own, int rank) {
  unsigned address = 0;
  if constexpr (kHasClusters)
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(address)
        : "r"(shared_address(own)), "r"(rank));
  return address;
}
template <class T> FASTRNN_DEVICE void store_remote(T* own, T value, int rank) {
  const unsigned to = remote_address(own, rank);
  if constexpr (!kHasClusters)
    __trap();
  else if constexpr (sizeof(T) == sizeof(uint16_t))
    asm volatile("st.shared::cluster.b16 [%0], %1;" ::"r"(to), "h"(value.bits) : "memory");
  else
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(to), "f"(value) : "memory");
}

// By one thread; those of other blocks may arrive after the next sync_cluster.
FASTRNN_DEVICE void init_arrivals(Arrivals* own, int count) {
  if constexpr (kHasClusters)
    asm volatile(
        "mbarrier.init.shared::cta.b64 [%0], %1;\n\t"
        "fence.mbarrier_init.release.cluster;" ::"r"(shared_address(own)),
        "r"(count)
        : "memory");
  else
    __trap();
}
// Releases what this thread has written or observed, then counts at the cluster's block `rank`.
FASTRNN_DEVICE void arrive_at(Arrivals* own, int rank, const char*) {
  if constexpr (kHasClusters)
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(
                     remote_address(own, rank))
                 : "memory");
  else
    __trap();
}
// Whether the phase of this parity is complete, and not the one that is under way; if so, acquires
// what its arrivals have released. One poll, which does not wait: try_wait would, for a time that
// nobody states, and so for any number of times kMaxPolls.
FASTRNN_DEVICE bool have_arrived(Arrivals* own, unsigned parity, const char*) {
  unsigned complete = 0;
  if constexpr (kHasClusters)
    asm volatile(
        "{\n\t"
        ".reg .pred complete;\n\t"
        "mbarrier.test_wait.parity.acquire.cluster.shared::cta.b64 complete, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, complete;\n\t"
        "}"
        : "=r"(complete)
        : "r"(shared_address(own)), "r"(parity)
        : "memory");
  else
    __trap();
  return complete != 0;
}

// ---- what blocks exchange through global memory -------------------------------------------------

// To global memory, where other blocks poll for it.
FASTRNN_DEVICE void store_flagged(Flagged* to, Flagged value, const char*) {
  const uint64_t word = uint64_t{value.tag} << 32 | value.bits;
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}
FASTRNN_DEVICE Flagged flagged_of(uint64_t word) {
  return {static_cast<uint32_t>(word), static_cast<uint32_t>(word >> 32)};
}
// One poll.
FASTRNN_DEVICE Flagged load_flagged(const Flagged* p, const char*) {
  uint64_t word;
  asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(word) : "l"(p) : "memory");
  return flagged_of(word);
}
// The memory model takes a vector for as many loads of its elements.
FASTRNN_DEVICE FlaggedPair load_flagged(const FlaggedPair* p, const char*) {
  uint64_t first, second;
  asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(first), "=l"(second)
               : "l"(p)
               : "memory");
  return {flagged_of(first), flagged_of(second)};
}

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

FASTRNN_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
FASTRNN_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }

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
