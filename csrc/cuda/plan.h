// How a pass is run: the mode, and for the grid mode who does what.
#pragma once

#include <stdint.h>

#include <string>

#include "device.h"
#include "kernels.h"

namespace fastrnn {
namespace gpu {

enum class Mode { kBest, kGrid, kStepwise };
const char* name_of(Mode mode);

struct Plan {
  Mode mode = Mode::kStepwise;
  Grid grid{};  // without its counters
  int blocks = 0, threads = 0;
  int64_t shared = 0;       // bytes of a block
  double microseconds = 0;  // of one step, as the model has it
};

struct Sizes {
  int64_t T, B, H;
  int directions;
};

// The cheapest plan by the model (costs in plan.cpp), or the cheapest of one mode. Throws
// Error(kNotImplemented) where that mode cannot run the pass. Plans are kept: a device is asked for
// its occupancy once.
Plan plan_pass(const std::string& op, const KernelSet& kernels, const Device& device,
               const Sizes& sizes, bool backward, Mode mode);

}  // namespace gpu
}  // namespace fastrnn
