#include "scheme.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "dtype.h"
#include "error.h"

namespace fastrnn {

LayerType layer_type_named(const std::string& op, const std::string& name) {
  for (const WeightScheme& scheme : kSchemes)
    if (name == scheme.name) return {kFloat32, &scheme};
  return dtype_named(op, name);
}

void check_scales(const std::string& op, const std::string& name, const View& scales) {
  for (int64_t i = 0; i < scales.shape[0]; ++i) {
    float scale;
    std::memcpy(&scale, scales.data + i * scales.strides[0], sizeof scale);
    if (scale >= 0 && std::isfinite(scale)) continue;
    char got[32];
    std::snprintf(got, sizeof got, "%g", static_cast<double>(scale));
    throw Error(Fault::kValue, op, name + " must be finite and not negative, got " + got);
  }
}

}  // namespace fastrnn
