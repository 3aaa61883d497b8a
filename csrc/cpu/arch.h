// What the engine asks of the processor's architecture itself; all else is portable C++, but for
// the headers of the levels. FASTRNN_ON_<architecture>(code) is the code where it is compiled for
// that architecture, and nothing elsewhere.
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#define FASTRNN_ON_x86_64(...) __VA_ARGS__
#else
#define FASTRNN_ON_x86_64(...)
#endif

#if defined(__aarch64__)
#define FASTRNN_ON_aarch64(...) __VA_ARGS__
#else
#define FASTRNN_ON_aarch64(...)
#endif

#define FASTRNN_ON_any(...) __VA_ARGS__

namespace fastrnn {
namespace arch {

// relax(): between two looks of a loop that waits, some tens of nanoseconds in which the core is
// free for its other thread.
//
// float_settings(): the thread's rounding, and whether subnormal numbers are flushed to zero, which
// kFlushToZero stands for.
#if defined(__x86_64__)

inline void relax() { _mm_pause(); }

constexpr uint64_t kFlushToZero = 0x8040;
inline uint64_t float_settings() { return _mm_getcsr() & ~0x3fu; }  // without what has happened
inline void set_float_settings(uint64_t bits) { _mm_setcsr(static_cast<unsigned>(bits)); }

#elif defined(__aarch64__)

// The hint for it, `yield`, takes no time at all.
inline void relax() { asm volatile("isb" : : : "memory"); }

constexpr uint64_t kFlushToZero = 1 << 24;
inline uint64_t float_settings() {
  uint64_t bits;
  asm volatile("mrs %0, fpcr" : "=r"(bits));
  return bits;
}
inline void set_float_settings(uint64_t bits) { asm volatile("msr fpcr, %0" : : "r"(bits)); }

#else

inline void relax() {}

constexpr uint64_t kFlushToZero = 0;
inline uint64_t float_settings() { return 0; }
inline void set_float_settings(uint64_t) {}

#endif

}  // namespace arch
}  // namespace fastrnn
