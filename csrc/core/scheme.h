// How the weights of a layer may be quantized: for inference alone, with x, h and results in
// float32.
#pragma once

#include <string>

#include "array.h"

namespace fastrnn {

// Weights are elements of `type`, one row of which, those that make one value, may have a scale:
// what the elements of the row are multiplied by. Biases and the like stay float32.
struct WeightScheme {
  const char* name;
  ElementType type;
  bool scaled;
  bool integers;  // are x and h rounded to integers too, row by row?
};
constexpr WeightScheme kSchemes[] = {{"int8", {'i', 1}, true, true},
                                     {"int8_weights", {'i', 1}, true, false},
                                     {"float16_weights", {'f', 2}, false, false},
                                     {"bfloat16_weights", {'B', 2}, false, false}};

// Sums of more products of two numbers of 8 bits would not fit 32 bits.
constexpr int64_t kMostIntegerProducts = 65000;

// What a layer is made of: elements, and how its weights are quantized where they are.
struct LayerType {
  ElementType element;
  const WeightScheme* scheme;

  LayerType(ElementType of, const WeightScheme* s = nullptr) : element(of), scheme(s) {}
};
// That of a dtype's name, or of a scheme's. Throws Error where there is none; op opens the message.
LayerType layer_type_named(const std::string& op, const std::string& name);

// Throws Error where a scale is negative or not finite. scales: a vector of float32.
void check_scales(const std::string& op, const std::string& name, const View& scales);

}  // namespace fastrnn
