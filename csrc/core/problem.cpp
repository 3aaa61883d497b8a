#include "problem.h"

namespace fastrnn {

Shape parameter_shape(const Spec& spec, int64_t item) {
  const int64_t each = spec.params_per_pass(), rows = spec.gates * spec.units;
  switch (item % each) {
    case kWeightIh: return {rows, spec.layer_inputs(item / each / spec.directions)};
    case kWeightHh: return {rows, spec.units};
    default: return {rows};
  }
}

std::vector<Parameter> parameters_of(const Spec& spec) {
  constexpr const char* kNames[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
  const int64_t each = spec.params_per_pass();
  std::vector<Parameter> all;
  for (int64_t item = 0; item < spec.passes() * each; ++item) {
    const int64_t layer = item / each / spec.directions, d = item / each % spec.directions;
    const std::string suffix = "_l" + std::to_string(layer) + (d ? "_reverse" : "");
    all.push_back({kNames[item % each] + suffix, parameter_shape(spec, item)});
  }
  return all;
}

}  // namespace fastrnn
