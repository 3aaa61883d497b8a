// The emulated device's properties, which a test may change.
#pragma once

#include <stdint.h>

#include <functional>
#include <string>

#include "cuda/device.h"

namespace fastrnn {
namespace emulation {

// Every plan asks for the device anew, under this index, so that plans of another are not found.
// One that was lost works again, as in a new process. `architecture` is the compute
// capability, times 10, of the device and of the code of kernels.
void use_device(int processors, int64_t shared_per_block, bool cooperative, double gigahertz,
                int64_t max_cluster = 16, int architecture = 90);

// Which device memory that begins here is said to be on; -1: on none. All other memory is on 0.
void place_on(uintptr_t pointer, int device);

// Whether arrays that say they are in the host's memory are the device's too, so that tensors of
// torch's CPU build can stand for those on a GPU.
void take_host_arrays(bool take);
// But for this memory, which is the host's alone until it is taken.
void leave_to_host(uintptr_t pointer, int64_t bytes);
void take_from_host(uintptr_t pointer);

// The device refuses cooperative launches of more blocks, until use_device is called.
void limit_cooperative(int blocks);

// A launch of a kernel with its arguments.
void launch_call(const std::string& op, const gpu::Launch& how, const std::function<void()>& call);

// The next call of this name ("launch", "zero", ...) fails as a lost device does.
void fail_next_call(const std::string& name);

}  // namespace emulation
}  // namespace fastrnn
