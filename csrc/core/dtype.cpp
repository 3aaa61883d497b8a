#include "dtype.h"

#include "error.h"

namespace fastrnn {

ElementType dtype_named(const std::string& op, const std::string& name) {
  std::string names;
  for (const Dtype& dtype : kDtypes) {
    if (name == dtype.name) return dtype.type;
    names += (names.empty() ? "" : ", ") + std::string(dtype.name);
  }
  throw Error(Fault::kType, op, "dtype must be one of " + names + ", got " + name);
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
