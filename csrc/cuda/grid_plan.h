// How the blocks of the grid mode share a pass: the quickest of all ways that fit, by a model of
// the time of a step (costs.h).
#pragma once

#include "layout.h"
#include "mode.h"

namespace fastrnn {
namespace gpu {

// The kernel of a pass, for its occupancy.
const void* grid_kernel(const Work& work);
// A plan without blocks where nothing fits.
Plan plan_grid(const Work& work, ExchangeWay way);

}  // namespace gpu
}  // namespace fastrnn
