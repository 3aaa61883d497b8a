// What kernels have found wrong, which the host learns later.
#pragma once

#include <string>

#include "../core/error.h"
#include "pass.h"

namespace fastrnn {
namespace gpu {

// Throws what a kernel of an earlier call has reported: once, or for a kernel that ended itself,
// after which the device serves this process no more, always.
void raise_device_errors(const std::string& op, int device);
// That of a kernel that ended itself alone.
void raise_abandoned(const std::string& op, const DeviceError* error);
// Waits for a stream and throws what its kernels have reported.
void synchronize_and_raise(const std::string& op, int device, void* stream);

// Calls of CUDA that fail after a kernel has ended itself fail because of it.
template <class F> void with_reason(const std::string& op, const DeviceError* error, F calls) {
  try {
    calls();
  } catch (const Error&) {
    raise_abandoned(op, error);
    throw;
  }
}

}  // namespace gpu
}  // namespace fastrnn
