// The types that elements may have, and their names.
#pragma once

#include <stdint.h>

#include <string>

#include "array.h"

namespace fastrnn {

// A type that layers are made of. An engine may serve some of them alone.
struct Dtype {
  const char* name;
  ElementType type;
};
constexpr ElementType kFloat32 = {'f', 4};
constexpr Dtype kDtypes[] = {
    {"float32", kFloat32}, {"float64", {'f', 8}}, {"float16", {'f', 2}}, {"bfloat16", {'B', 2}}};

// The type of this name. Throws Error where there is none; op opens the message.
ElementType dtype_named(const std::string& op, const std::string& name);

// Names of any type, for messages: "float32", "bfloat16", "int64 in foreign byte order".
std::string dtype_name(char kind, int64_t itemsize);
std::string dtype_of(const View& view);

}  // namespace fastrnn
