// The planes of the gradient of a step as the GPU's engine keeps them: a row for each step of
// dgates holds the gates' x parts in the order of the weights, then the r parts of split gates,
// then what the step adds to the gradients of the unit's own parameters.
//
// A gate is split where the product with h is not simply added to that with x (the GRU's n: r
// multiplies the former alone), so that the two have gradients of their own. x parts in the order
// of the weights make dx and dW_ih one product each with the parameters as they lie. (The CPU packs
// weights anyway and orders planes so that r parts are neighbours too: cpu/pack.h.)
#pragma once

#include "shared.h"

namespace fastrnn {

FASTRNN_HOST_DEVICE constexpr bool is_split(unsigned split_gates, int gate) {
  return (split_gates >> gate) & 1u;
}

// Gates of a mask.
FASTRNN_HOST_DEVICE constexpr int gate_count(unsigned mask) {
  int n = 0;
  for (; mask; mask &= mask - 1) ++n;
  return n;
}

// The plane of a gate's r part; of a gate that is not split, its one plane.
FASTRNN_HOST_DEVICE constexpr int recurrent_plane(int gates, unsigned split_gates, int gate) {
  if (!is_split(split_gates, gate)) return gate;
  int plane = gates;
  for (int i = 0; i < gate; ++i) plane += is_split(split_gates, i);
  return plane;
}

FASTRNN_HOST_DEVICE constexpr int plane_count(int gates, unsigned split_gates) {
  int n = gates;
  for (int g = 0; g < gates; ++g) n += is_split(split_gates, g);
  return n;
}

// Calls f(gate, plane, count) for neighbouring gates whose r parts are neighbours too.
template <class F> void for_recurrent_planes(int gates, unsigned split_gates, F f) {
  for (int gate = 0; gate < gates;) {
    const int plane = recurrent_plane(gates, split_gates, gate);
    int count = 1;
    while (gate + count < gates &&
           recurrent_plane(gates, split_gates, gate + count) == plane + count)
      ++count;
    f(gate, plane, count);
    gate += count;
  }
}

}  // namespace fastrnn
