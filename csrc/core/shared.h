// What engines and kernels share of the core. Kernels include this, so it has no C++ library.
#pragma once

#include <stdint.h>

// Functions that run on the host and, under nvcc, on the device. Always inlined: a copy that was
// compiled for one instruction set must not serve the kernels of another.
#if defined(__CUDACC__)
#define FASTRNN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FASTRNN_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace fastrnn {

constexpr int kMaxStates = 2;  // of a cell: h, and what stands beside it

// What a copy of rows (t, b) of a sequence puts in place of some.
enum class CopyRule : int {
  kWhole,    // no rows: all of an array as one block, or zeros where there is none to copy
  kRows,     // nothing
  kRunning,  // zeros past the length of a row
  kBefore    // the row of the step before: the initial state before the first, zeros where a
             // sequence starts and past the length
};

}  // namespace fastrnn
