// GRU (Cho et al. 2014) in the reset-after form of torch.nn.GRU and cuDNN, where the reset gate
// scales the recurrent part of n after its product, x and r being that gate's two parts:
//
//   r = sigmoid(x_r)   z = sigmoid(x_z)   n = tanh(x_n + r * r_n)
//   h' = (1 - z) * n + z * h
#pragma once

#include "gates.h"

namespace fastrnn {

struct Gru {
  static constexpr int kGates = 3, kStates = 1, kSaved = 4, kUnit = 0;
  static constexpr unsigned kSplit = 1u << 2;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void forward(const M& m, const Pack<V, 3>& x, const Pack<V, 3>& r_,
                                            Pack<V, 1>& s, Pack<V, 4>& save) {
    const V r = m.value(Gate(), x[0]), z = m.value(Gate(), x[1]);
    const V x_n = fma(r, r_[2], x[2]), n = m.value(Candidate(), x_n);
    s[0] = m.state(next_h(z, n, s[0]));
    save = {m.kept(x[0], r), m.kept(x[1], z), m.kept(x_n, n), r_[2]};
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void backward(const M& m, const Pack<V, 4>& save,
                                             const Pack<V, 1>& s_prev, const Pack<V, 1>&,
                                             Pack<V, 1>& ds, Pack<V, 3>& dx, Pack<V, 3>& dr) {
    const auto r = m.from_kept(Gate(), save[0]), z = m.from_kept(Gate(), save[1]),
               n = m.from_kept(Candidate(), save[2]);
    const V dh = m.state_gradient(next_h(z.y, n.y, s_prev[0]), ds[0]);
    const V r_n = save[3], dn = n.gradient(dh * (V(1) - z.y));
    dx[0] = r.gradient(dn * r_n);
    dx[1] = z.gradient(dh * (s_prev[0] - n.y));
    dx[2] = dn;
    dr[2] = dn * r.y;
    ds[0] = dh * z.y;
  }

  // h' = (1 - z) * n + z * h
  template <class V> static FASTRNN_CELL_FUNCTION V next_h(V z, V n, V h) {
    return fma(z, h - n, n);
  }
};

}  // namespace fastrnn
