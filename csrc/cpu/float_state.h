// The floating point state of a thread: rounding, and whether subnormal numbers are flushed to
// zero. Callers may have set it; all members of a team compute under the caller's, so that results
// do not depend on who computes them.
#pragma once

#include <stdint.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fastrnn {

class FloatState {
 public:
  static FloatState current() {
    FloatState state;
#if defined(__SSE2__)
    state.bits_ = _mm_getcsr() & ~kRaised;
#elif defined(__aarch64__)
    asm volatile("mrs %0, fpcr" : "=r"(state.bits_));
#endif
    return state;
  }

  void set() const {
#if defined(__SSE2__)
    _mm_setcsr(static_cast<unsigned>(bits_));
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0" : : "r"(bits_));
#endif
  }
  bool operator!=(const FloatState& other) const { return bits_ != other.bits_; }

 private:
  static constexpr uint64_t kRaised = 0x3f;  // what has happened so far is no setting
  uint64_t bits_ = 0;
};

// A thread computes under `state` while it lives, and has its own back afterwards.
class FloatScope {
 public:
  explicit FloatScope(const FloatState& state)
      : own_(FloatState::current()), changes_(own_ != state) {
    if (changes_) state.set();
  }
  ~FloatScope() {
    if (changes_) own_.set();
  }
  FloatScope(const FloatScope&) = delete;
  FloatScope& operator=(const FloatScope&) = delete;

 private:
  const FloatState own_;
  const bool changes_;
};

}  // namespace fastrnn
