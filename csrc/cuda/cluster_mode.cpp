// The grid mode in which a group of blocks is a cluster, or one block.
#include "grid_mode.h"

namespace fastrnn {
namespace gpu {

const Mode& cluster_mode() {
  static const GridMode mode(ExchangeWay::kCluster, "cluster",
                             "one product in a step, all weights in the shared memory of one block "
                             "or a cluster, no float64");
  return mode;
}

}  // namespace gpu
}  // namespace fastrnn
