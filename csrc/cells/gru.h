// GRU (Cho et al. 2014) in the reset-after form of torch.nn.GRU and cuDNN, where the reset gate
// scales the recurrent part of n after its product, x and r being that gate's two parts:
//
//   r = sigmoid(x_r)   z = sigmoid(x_z)   n = tanh(x_n + r * r_n)
//   h' = (1 - z) * n + z * h
#pragma once

#include "gates.h"

namespace fastrnn {

struct Gru {
  static constexpr int kGates = 3, kStates = 1, kSaved = 4;
  static constexpr unsigned kSplit = 1u << 2;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void forward(const M& m, const Pack<V, 3>& x, const Pack<V, 3>& r_,
                                            Pack<V, 1>& s, Pack<V, 4>& save) {
    const V r = m.sigmoid(x[0]), z = m.sigmoid(x[1]);
    const V n = m.tanh(fma(r, r_[2], x[2]));
    s[0] = fma(z, s[0] - n, n);
    save = {r, z, n, r_[2]};
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void backward(const M& m, const Pack<V, 4>& save,
                                             const Pack<V, 1>& s_prev, const Pack<V, 1>&,
                                             Pack<V, 1>& ds, Pack<V, 3>& dx, Pack<V, 3>& dr) {
    const V r = save[0], z = save[1], n = save[2], r_n = save[3];
    const V dn = ds[0] * (V(1) - z) * m.dtanh(n);
    dx[0] = dn * r_n * m.dsigmoid(r);
    dx[1] = ds[0] * (s_prev[0] - n) * m.dsigmoid(z);
    dx[2] = dn;
    dr[2] = dn * r;
    ds[0] = ds[0] * z;
  }
};

}  // namespace fastrnn
