#include "problem.h"

namespace fastrnn {

std::vector<Parameter> parameters_of(const Spec& spec) {
  std::vector<Parameter> all;
  const int64_t rows = spec.gates * spec.units;
  for (int64_t l = 0; l < spec.layers; ++l)
    for (int64_t d = 0; d < spec.directions; ++d) {
      const std::string suffix = "_l" + std::to_string(l) + (d ? "_reverse" : "");
      all.push_back({"weight_ih" + suffix, {rows, spec.layer_inputs(l)}});
      all.push_back({"weight_hh" + suffix, {rows, spec.units}});
      if (!spec.bias) continue;
      all.push_back({"bias_ih" + suffix, {rows}});
      all.push_back({"bias_hh" + suffix, {rows}});
    }
  return all;
}

}  // namespace fastrnn
