// LSTM whose forget gate is coupled to the input gate (CIFG in Greff et al. 2017), with the
// peepholes of lstm.h, which it may have:
//
//   i = sigmoid(x_i + p_i * c)   g = tanh(x_g)
//   c' = (1 - i) * c + i * g     o = sigmoid(x_o + p_o * c')
//   h' = o * tanh(c')
#pragma once

#include "gates.h"

namespace fastrnn {

struct CoupledLstm {
  static constexpr int kGates = 3, kStates = 2, kSaved = 3, kUnit = 2;
  static constexpr unsigned kSplit = 0;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void forward(const M& m, const Pack<V, 5>& x, const Pack<V, 5>&,
                                            Pack<V, 2>& s, Pack<V, 3>& save) {
    const V x_i = m.peephole(x[3], s[1], x[0]);
    const V i = m.value(Gate(), x_i), g = m.value(Candidate(), x[1]);
    const V c = m.state(next_c(i, g, s[1]));
    const V x_o = m.peephole(x[4], c, x[2]), o = m.value(Gate(), x_o);
    s[0] = o * m.value(Output(), c);
    s[1] = c;
    save = {m.kept(x_i, i), m.kept(x[1], g), m.kept(x_o, o)};
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void backward(const M& m, const Pack<V, 3>& save,
                                             const Pack<V, 2>& s_prev, const Pack<V, 2>& s,
                                             Pack<V, 2>& ds, Pack<V, 5>& dx, Pack<V, 5>&) {
    const auto i = m.from_kept(Gate(), save[0]), g = m.from_kept(Candidate(), save[1]),
               o = m.from_kept(Gate(), save[2]), out = m.from_input(Output(), s[1]);
    dx[2] = o.gradient(ds[0] * out.y);
    const V dc = m.state_gradient(next_c(i.y, g.y, s_prev[1]),
                                  m.peephole(dx[4], dx[2], out.gradient(ds[0] * o.y, ds[1])));
    dx[0] = i.gradient(dc * (g.y - s_prev[1]));
    dx[1] = g.gradient(dc * i.y);
    ds[0] = V(0);
    ds[1] = m.peephole(dx[3], dx[0], dc * (V(1) - i.y));
    dx[3] = dx[0] * s_prev[1];
    dx[4] = dx[2] * s[1];
  }

 private:
  template <class V> static FASTRNN_CELL_FUNCTION V next_c(V i, V g, V c) {
    return fma(i, g - c, c);
  }
};

}  // namespace fastrnn
