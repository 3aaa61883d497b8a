// Callers may have set the floating point state of their thread (rounding, and whether subnormal
// numbers are flushed to zero). All members of a team compute under the caller's, so that results
// do not depend on who computes them.
#pragma once

#include "arch.h"

namespace fastrnn {

// A thread computes under `settings` while it lives, and has its own back afterwards.
class FloatScope {
 public:
  explicit FloatScope(uint64_t settings)
      : own_(arch::float_settings()), changes_(own_ != settings) {
    if (changes_) arch::set_float_settings(settings);
  }
  ~FloatScope() {
    if (changes_) arch::set_float_settings(own_);
  }
  FloatScope(const FloatScope&) = delete;
  FloatScope& operator=(const FloatScope&) = delete;

 private:
  const uint64_t own_;
  const bool changes_;
};

}  // namespace fastrnn
