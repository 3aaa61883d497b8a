#include "scheme.h"

#include "dtype.h"

namespace fastrnn {

LayerType layer_type_named(const std::string& op, const std::string& name) {
  for (const WeightScheme& scheme : kSchemes)
    if (name == scheme.name) return {kFloat32, &scheme};
  return dtype_named(op, name);
}

}  // namespace fastrnn
