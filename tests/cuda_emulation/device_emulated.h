// The emulated device's properties, which a test may change.
#pragma once

#include <stdint.h>

#include <string>

namespace fastrnn {
namespace emulation {

// Every plan asks for the device anew, under this index, so that plans of another are not found.
void use_device(int processors, int64_t shared_per_block, bool cooperative);

// The next call of this name ("launch", "zero", ...) fails as a lost device does.
void fail_next_call(const std::string& name);

}  // namespace emulation
}  // namespace fastrnn
