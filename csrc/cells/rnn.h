// The simple recurrent layer (Elman 1990), the form of torch.nn.RNN:
//
//   h' = activation(x)
//
// Nothing is saved: the derivative of each activation is a function of its value h', which the
// output holds.
#pragma once

#include "gates.h"

namespace fastrnn {

struct Tanh {
  template <class M, class V> static FASTRNN_CELL_FUNCTION V value(const M& m, V x) {
    return m.tanh(x);
  }
  template <class M, class V> static FASTRNN_CELL_FUNCTION V gradient(const M& m, V y, V dy) {
    return dy * m.dtanh(y);
  }
};
struct Relu {
  template <class M, class V> static FASTRNN_CELL_FUNCTION V value(const M& m, V x) {
    return m.relu(x);
  }
  template <class M, class V> static FASTRNN_CELL_FUNCTION V gradient(const M& m, V y, V dy) {
    return m.relu_gradient(y, dy);
  }
};
struct Sigmoid {
  template <class M, class V> static FASTRNN_CELL_FUNCTION V value(const M& m, V x) {
    return m.sigmoid(x);
  }
  template <class M, class V> static FASTRNN_CELL_FUNCTION V gradient(const M& m, V y, V dy) {
    return dy * m.dsigmoid(y);
  }
};

template <class Activation> struct Rnn {
  static constexpr int kGates = 1, kStates = 1, kSaved = 0;
  static constexpr unsigned kSplit = 0;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void forward(const M& m, const Pack<V, 1>& x, const Pack<V, 1>&,
                                            Pack<V, 1>& s, Pack<V, 0>&) {
    s[0] = Activation::value(m, x[0]);
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void backward(const M& m, const Pack<V, 0>&, const Pack<V, 1>&,
                                             const Pack<V, 1>& s, Pack<V, 1>& ds, Pack<V, 1>& dx,
                                             Pack<V, 1>&) {
    dx[0] = Activation::gradient(m, s[0], ds[0]);
    ds[0] = V(0);
  }
};

}  // namespace fastrnn
