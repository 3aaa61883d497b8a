#include "problem.h"

namespace fastrnn {

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

View fresh_view(void* data, int64_t itemsize, const Shape& shape) {
  View view;
  view.data = static_cast<char*>(data);
  view.itemsize = itemsize;
  view.kind = 'f';
  view.given = view.writeable = view.fresh = true;
  view.rank = shape.size();
  int64_t stride = itemsize;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.shape[i] = shape[i];
    view.strides[i] = stride;
    stride *= view.shape[i];
  }
  return view;
}

Shape shape_of(const View& view) {
  return Shape(view.shape, view.shape + std::min(view.rank, kMaxRank));
}

std::string dtype_name(char kind, int64_t itemsize) {
  const std::string bits = std::to_string(8 * itemsize);
  switch (kind) {
    case 'f': return "float" + bits;
    case 'i': return "int" + bits;
    case 'u': return "uint" + bits;
    case 'c': return "complex" + bits;
    case 'b': return "bool";
    case 'B': return "bfloat" + bits;
    default: return std::string("dtype of kind '") + kind + "'";
  }
}

std::string dtype_of(const View& view) {
  const std::string name = dtype_name(view.kind, view.itemsize);
  return view.native ? name : name + " in foreign byte order";
}

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
