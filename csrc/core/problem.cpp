#include "problem.h"

#include "error.h"

namespace fastrnn {

void set_cell(const CellName& cell, Spec* spec) {
  if (cell.directions_differ && spec->directions != 2)
    throw Error(Fault::kValue, spec->op,
                "functions of two directions must be for two directions, got one");
  spec->unit_parameters = cell.unit_parameters;
  for (int d : {0, 1}) {
    spec->maths[d] = cell.of_direction[d];
    spec->bounded[d] = cell.bounded[d];
  }
}

Shape parameter_shape(const Spec& spec, int64_t item) {
  const int64_t each = spec.params_per_pass(), rows = spec.gates * spec.units;
  switch (spec.kind_at(item % each)) {
    case kWeightIh: return {rows, spec.layer_inputs(item / each / spec.directions)};
    case kWeightHh: return {rows, spec.outputs()};
    case kWeightDiag: return {spec.unit_parameters * spec.units};
    case kWeightHr: return {spec.projection, spec.units};
    case kScaleHr: return {spec.projection};
    default: return {rows};
  }
}

ElementType parameter_type(const Spec& spec, int64_t item) {
  const int kind = spec.kind_at(item % spec.params_per_pass());
  const bool matrix = kind == kWeightIh || kind == kWeightHh || kind == kWeightHr;
  return spec.scheme && matrix ? spec.scheme->type : spec.element();
}

std::vector<Parameter> parameters_of(const Spec& spec) {
  constexpr const char* kNames[kParameterKinds] = {"weight_ih", "weight_hh",   "bias_ih",
                                                   "bias_hh",   "weight_diag", "weight_hr",
                                                   "scale_ih",  "scale_hh",    "scale_hr"};
  const int64_t each = spec.params_per_pass();
  std::vector<Parameter> all;
  for (int64_t item = 0; item < spec.passes() * each; ++item) {
    const int64_t layer = item / each / spec.directions, d = item / each % spec.directions;
    const std::string suffix = "_l" + std::to_string(layer) + (d ? "_reverse" : "");
    all.push_back({kNames[spec.kind_at(item % each)] + suffix, parameter_shape(spec, item)});
  }
  return all;
}

}  // namespace fastrnn
