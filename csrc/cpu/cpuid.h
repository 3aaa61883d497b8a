// What this processor has.
#pragma once

#include <stdint.h>

#include <vector>

namespace fastrnn {

// A row of simd/levels.def.
struct Level {
  const char* name;
  bool usable;  // can its code run here?
};
// Those of this architecture, in ascending order.
const std::vector<Level>& levels();

struct Caches {
  // Bytes of one core (L3: shared); a usual size where the system does not say.
  int64_t l1d, l2, l3;
};
const Caches& caches();

}  // namespace fastrnn
