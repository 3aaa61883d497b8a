// What this processor has.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

namespace fastrnn {

// Can code of this level run here?
bool cpu_has(const std::string& level);

struct Caches {
  int64_t l1d, l2,
      l3;  // bytes of one core (L3: shared); a usual size where the system does not say
};
const Caches& caches();

}  // namespace fastrnn
