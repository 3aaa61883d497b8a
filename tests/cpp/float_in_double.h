// A storage type of a test's: arrays of float, sums and arithmetic in double. It stands for narrow
// types that are stored and widened: the drivers compile with it, and its results are within a
// rounding of float, only where they keep the two types apart.
#pragma once

#include "simd/storage.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct FloatInDouble {
  float value;
};

template <> struct Stored<FloatInDouble> {
  using Accumulator = double;
  static constexpr char kKind = 'f';
  using V = Vec<double>;
  static constexpr int L = V::kLanes;
  static double widen(FloatInDouble x) { return x.value; }
  static FloatInDouble narrow(double x) { return {static_cast<float>(x)}; }
  static V load(const FloatInDouble* p) { return load(p, L); }
  static V load(const FloatInDouble* p, int64_t n) {
    V v(0.0);
    for (int64_t i = 0; i < n; ++i) v.raw[i] = widen(p[i]);
    return v;
  }
  static void store(V v, FloatInDouble* p) { store(v, p, L); }
  static void store(V v, FloatInDouble* p, int64_t n) {
    for (int64_t i = 0; i < n; ++i) p[i] = narrow(v.raw[i]);
  }
  static V rounded(V v) {
    for (int64_t i = 0; i < L; ++i) v.raw[i] = widen(narrow(v.raw[i]));
    return v;
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
