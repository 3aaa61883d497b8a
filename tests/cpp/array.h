// An array of a test's, on the heap and of exactly its size, so that a step past its end is seen.
#pragma once

#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/problem.h"

template <class T> struct Array {
  fastrnn::Shape shape;
  std::vector<T> values;

  explicit Array(fastrnn::Shape s) : shape(std::move(s)) {
    size_t n = 1;
    for (int64_t d : shape) n *= static_cast<size_t>(d);
    values.resize(n);
  }
  Array& random(double scale, std::mt19937* rng) {
    std::normal_distribution<double> normal(0, scale);
    for (T& v : values) v = static_cast<T>(normal(*rng));
    return *this;
  }
  fastrnn::View view() const {
    fastrnn::View v;
    v.data = reinterpret_cast<char*>(const_cast<T*>(values.data()));
    v.itemsize = sizeof(T);
    v.kind = std::is_floating_point<T>::value ? 'f' : std::is_same<T, uint8_t>::value ? 'b' : 'i';
    v.given = v.writeable = true;
    v.rank = shape.size();
    int64_t stride = sizeof(T);
    for (int i = v.rank - 1; i >= 0; --i) {
      v.shape[i] = shape[i];
      v.strides[i] = stride;
      stride *= shape[i];
    }
    return v;
  }
};
