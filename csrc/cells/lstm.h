// LSTM with forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000), the form
// of torch.nn.LSTM:
//
//   i = sigmoid(x_i)   f = sigmoid(x_f)   g = tanh(x_g)   o = sigmoid(x_o)
//   c' = f * c + i * g
//   h' = o * tanh(c')
#pragma once

#include "gates.h"

namespace fastrnn {

struct Lstm {
  static constexpr int kGates = 4, kStates = 2, kSaved = 4;
  static constexpr unsigned kSplit = 0;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void forward(const M& m, const Pack<V, 4>& x, const Pack<V, 4>&,
                                            Pack<V, 2>& s, Pack<V, 4>& save) {
    const V i = m.sigmoid(x[0]), f = m.sigmoid(x[1]), g = m.tanh(x[2]), o = m.sigmoid(x[3]);
    const V c = fma(f, s[1], i * g);
    s[0] = o * m.tanh(c);
    s[1] = c;
    save = {i, f, g, o};
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void backward(const M& m, const Pack<V, 4>& save,
                                             const Pack<V, 2>& s_prev, const Pack<V, 2>& s,
                                             Pack<V, 2>& ds, Pack<V, 4>& dx, Pack<V, 4>&) {
    const V i = save[0], f = save[1], g = save[2], o = save[3];
    const V tanh_c = m.tanh(s[1]);
    const V dc = fma(ds[0] * o, m.dtanh(tanh_c), ds[1]);
    dx[0] = dc * g * m.dsigmoid(i);
    dx[1] = dc * s_prev[1] * m.dsigmoid(f);
    dx[2] = dc * i * m.dtanh(g);
    dx[3] = ds[0] * tanh_c * m.dsigmoid(o);
    ds[0] = V(0);
    ds[1] = dc * f;
  }
};

}  // namespace fastrnn
