// What a kernel asks of the machine: its thread and block, shared memory, barriers, shuffles, loads
// and stores that other blocks see, storage types, values for the cells. Kernels (*.cuh) use
// nothing else of CUDA, so that the same text runs on threads of a GPU under nvcc and, in tests, on
// fibers of the emulator (tests/cuda_emulation) under any C++17 compiler.
//
// Each primitive that orders memory or waits takes a name. nvcc drops it; the emulator names it in
// its messages, and a test can take one that orders memory away to see that it is missed.
#pragma once

#include <stdint.h>

#include <type_traits>
#include <utility>

#include "layout.h"
#include "pass.h"

namespace fastrnn {
namespace gpu {

// Four neighbours, moved at once.
template <class S> struct alignas(4 * sizeof(S)) Quad {
  S v[4];
};

// A float whose 13 lowest bits tensor cores ignore; the other types that they multiply are Half and
// Bfloat16. It is named as a type alone.
struct Tf32 {};

// A value of 32 bits and what says which one it is, read and written as one: a reader in another
// block polls until the tag is the one it waits for, and needs no counter. Orders no other memory.
struct alignas(8) Flagged {
  uint32_t bits, tag;
};
// Two that are read at once; each is whole, but one may be newer than the other.
struct alignas(16) FlaggedPair {
  Flagged v[2];
};

// A place in shared memory where threads of a cluster count down: when so many have arrived as it
// was made for, a phase is complete and the next begins. Phases have parity 0 and 1 by turns.
using Arrivals = uint64_t;

}  // namespace gpu
}  // namespace fastrnn

#if defined(__CUDACC__)
#include "gpu_cuda.h"
#else
#include "gpu_emulated.h"
#endif

namespace fastrnn {
namespace gpu {

// Calls f for 0 to N - 1 as constants, for what is found at compile time only.
template <class F, int... I>
FASTRNN_DEVICE void for_constants(F f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>{}), ...);
}
template <int N, class F> FASTRNN_DEVICE void for_constants(F f) {
  for_constants(f, std::make_integer_sequence<int, N>{});
}

// ---- storage ------------------------------------------------------------------------------------
//
// Arrays hold S; sums, cell states and all arithmetic are Acc<S>.

template <class S> struct Accumulator {
  using Type = float;
};
template <> struct Accumulator<double> {
  using Type = double;
};
template <class S> using Acc = typename Accumulator<S>::Type;

FASTRNN_DEVICE float widen(float x) { return x; }
FASTRNN_DEVICE double widen(double x) { return x; }
FASTRNN_DEVICE float widen(Half x) { return half_to_float(x); }
FASTRNN_DEVICE float widen(Bfloat16 x) { return bfloat16_to_float(x); }

template <class S> FASTRNN_DEVICE S narrow(Acc<S> x) { return x; }
template <> FASTRNN_DEVICE Half narrow<Half>(float x) { return half_from_float(x); }
template <> FASTRNN_DEVICE Bfloat16 narrow<Bfloat16>(float x) { return bfloat16_from_float(x); }

// The bits of a value in 32, and back.
FASTRNN_DEVICE uint32_t bits_of(Half x) { return x.bits; }
FASTRNN_DEVICE uint32_t bits_of(Bfloat16 x) { return x.bits; }
template <class S> FASTRNN_DEVICE S of_bits(uint32_t bits) { return {static_cast<uint16_t>(bits)}; }
template <> FASTRNN_DEVICE float of_bits<float>(uint32_t bits) { return float_of(bits); }

// ---- the value type of the cells ----------------------------------------------------------------

template <class T> struct Real {
  T v;
  Real() = default;
  FASTRNN_DEVICE explicit Real(T x) : v(x) {}
  template <class U> FASTRNN_DEVICE explicit Real(U x) : v(static_cast<T>(x)) {}

  friend FASTRNN_DEVICE Real operator+(Real a, Real b) { return Real(a.v + b.v); }
  friend FASTRNN_DEVICE Real operator-(Real a, Real b) { return Real(a.v - b.v); }
  friend FASTRNN_DEVICE Real operator*(Real a, Real b) { return Real(a.v * b.v); }
  friend FASTRNN_DEVICE Real operator/(Real a, Real b) { return Real(a.v / b.v); }
  friend FASTRNN_DEVICE Real operator-(Real a) { return Real(-a.v); }
  friend FASTRNN_DEVICE bool operator<(Real a, Real b) { return a.v < b.v; }
  friend FASTRNN_DEVICE bool operator<=(Real a, Real b) { return a.v <= b.v; }
  friend FASTRNN_DEVICE bool operator>(Real a, Real b) { return a.v > b.v; }
  friend FASTRNN_DEVICE Real select(bool mask, Real a, Real b) { return mask ? a : b; }
  friend FASTRNN_DEVICE Real fma(Real a, Real b, Real c) { return Real(fused(a.v, b.v, c.v)); }
  friend FASTRNN_DEVICE Real exp_of(Real x) { return Real(exponential(x.v)); }
  friend FASTRNN_DEVICE Real expm1_of(Real x) { return Real(exponential_minus_1(x.v)); }
  friend FASTRNN_DEVICE Real log1p_of(Real x) { return Real(logarithm_of_1_plus(x.v)); }
  friend FASTRNN_DEVICE Real tanh_of(Real x) { return Real(tangent(x.v)); }
  // The form for x < 0 would be exp(x) / (1 + exp(x)); this one is its equal to rounding but where
  // exp(-x) overflows, and there it gives 0.
  friend FASTRNN_DEVICE Real sigmoid_of(Real x) { return Real(T(1) / (T(1) + exponential(-x.v))); }
};

// ---- waiting for other blocks -------------------------------------------------------------------

// Polls until it is done. A thread that has polled kMaxPolls times calls `give_up`, which ends the
// kernel: a block that never comes would otherwise hold the GPU for ever. Polls are counted instead
// of time, since they stop while another process or a debugger has the GPU, and slow down under a
// sanitizer as the other blocks do.
template <class Done, class GiveUp> FASTRNN_DEVICE void poll(Done is_done, GiveUp give_up) {
  for (unsigned left = kMaxPolls; !is_done(); pause())
    if (--left == 0) give_up();
}

// A barrier that a group of resident blocks passes again and again. What a block wrote to global
// memory before it, every block of the group may read after it: the arrival releases, the wait
// acquires, and a barrier of the block on either side extends both to all its threads. What nobody
// waits for is written, and what is needed later loaded, between the two.
//
// The counter starts at 0, and each block adds one to it at each arrival. It is compared by
// difference, so that it may wrap.
struct GroupBarrier {
  unsigned* counter;
  unsigned blocks;
  unsigned target = 0;

  // By all threads; the block's writes from before it are seen by whoever has waited.
  FASTRNN_DEVICE void arrive() {
    sync_block("barrier: the block has arrived");
    if (thread() != 0) return;
    target += blocks;
    gpu::arrive(counter, "barrier: release");
  }
  template <class GiveUp> FASTRNN_DEVICE void wait(GiveUp give_up) {
    if (thread() == 0)
      poll(
          [&] { return static_cast<int>(load_acquire(counter, "barrier: acquire") - target) >= 0; },
          give_up);
    sync_block("barrier: the block may go on");
  }
};

}  // namespace gpu
}  // namespace fastrnn
