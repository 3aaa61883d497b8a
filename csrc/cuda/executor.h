// Executes the program of a call on a GPU: scans by one of the modes, copies by a kernel, products
// by the library whose arrays the call brings.
#pragma once

#include "arrays.h"
#include "mode.h"

namespace fastrnn {
namespace gpu {

// A call whose arrays have been checked. Arrays that kernels find by one pointer (x, states,
// parameters) are contiguous, all others in their last dimension; lengths are on the device.
void execute(const Stack& stack, const Call& call, const Problem& problem, const Numbers& numbers,
             Library& library, void* stream);

// The plan of the scans of a call of this size, with a library that can be recorded or not.
Plan plan_of(const Stack& stack, int64_t T, int64_t B, int device, bool backward,
             bool can_be_recorded);

}  // namespace gpu
}  // namespace fastrnn
