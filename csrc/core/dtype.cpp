#include "dtype.h"

namespace fastrnn {

const Dtype* find_dtype(const std::string& name) {
  for (const Dtype& dtype : kDtypes)
    if (name == dtype.name) return &dtype;
  return nullptr;
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

}  // namespace fastrnn
