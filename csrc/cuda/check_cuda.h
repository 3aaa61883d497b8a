// Calls of CUDA's runtime, every one of which is checked.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "device.h"

namespace fastrnn {
namespace gpu {

// Errors of a kernel, found by whichever call comes next, after which every call fails.
inline bool is_for_good(cudaError_t error) {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure: return true;
    default: return false;
  }
}

inline void check(const std::string& op, const char* call, cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky must not reach the next call that asks
  const char* rest = is_for_good(error) ? " (of a kernel before it: this process's CUDA context is "
                                          "lost, which only a new process can replace)"
                                        : "";
  const std::string text = std::string(call) + " must succeed, got " + cudaGetErrorName(error) +
                           ": " + cudaGetErrorString(error) + rest;
  if (error == cudaErrorCooperativeLaunchTooLarge) throw TooManyBlocks(Fault::kRuntime, op, text);
  throw Error(error == cudaErrorMemoryAllocation ? Fault::kMemory : Fault::kRuntime, op, text);
}
#define FASTRNN_CHECK(op, call, ...) check(op, #call, call(__VA_ARGS__))

}  // namespace gpu
}  // namespace fastrnn
