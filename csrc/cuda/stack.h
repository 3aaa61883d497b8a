// A stack of layers on a GPU: its sizes, and the kernels of its cell and dtype.
#pragma once

#include <string>

#include "../core/problem.h"
#include "kernels.h"

namespace fastrnn {
namespace gpu {

struct Stack {
  Spec spec;
  const KernelSet* kernels;
};
// dtype: float32, float64, float16 or bfloat16; of `sizes` the layers, directions, inputs, units,
// biases and projection. Throws Error: unknown names, impossible sizes, what there are no kernels
// for.
Stack make_stack(const std::string& dtype, const Spec& sizes);

}  // namespace gpu
}  // namespace fastrnn
