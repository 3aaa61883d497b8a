// The grid mode in which blocks poll for each value that others have made.
#include "grid_mode.h"

namespace fastrnn {
namespace gpu {

const Mode& flags_mode() {
  static const GridMode mode(ExchangeWay::kFlags, "flags",
                             "one product in a step, all blocks at once, no float64");
  return mode;
}

}  // namespace gpu
}  // namespace fastrnn
