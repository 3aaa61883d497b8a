// GRU (Cho et al. 2014, as published at EMNLP) with the reset gate before the product of n: Keras'
// reset_after=False, ONNX's linear_before_reset=0. A step of two phases:
//
//   r = sigmoid(x_r)   z = sigmoid(x_z)   v = r * h
//   n = tanh(x_n)      where x_n has R_n v and not R_n h
//   h' = (1 - z) * n + z * h
#pragma once

#include "gru.h"

namespace fastrnn {

struct GruResetBefore {
  static constexpr int kGates = 3, kStates = 1, kSaved = 3, kFirstSaved = 2, kUnit = 0;
  static constexpr unsigned kSplit = 0, kSecond = 1u << 2;
  static constexpr bool kProjects = false;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void first(const M& m, const Pack<V, 3>& x, const Pack<V, 3>&,
                                          Pack<V, 1>& s, Pack<V, 3>& save, V& v) {
    const V r = m.value(Gate(), x[0]), z = m.value(Gate(), x[1]);
    save[0] = m.kept(x[0], r);
    save[1] = m.kept(x[1], z);
    v = r * s[0];
  }

  template <class M, class V> static FASTRNN_CELL_FUNCTION void second(const M& m,
                                                                       const Pack<V, 3>& x, V& h,
                                                                       Pack<V, 3>& save) {
    const V z = m.from_kept(Gate(), save[1]).y, n = m.value(Candidate(), x[2]);
    h = m.state(Gru::next_h(z, n, h));
    save[2] = m.kept(x[2], n);
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void second_backward(const M& m, const Pack<V, 3>& save, const V& h,
                                                    V& dh, Pack<V, 3>& dx) {
    const V z = m.from_kept(Gate(), save[1]).y;
    const auto n = m.from_kept(Candidate(), save[2]);
    dh = m.state_gradient(Gru::next_h(z, n.y, h), dh);
    dx[2] = n.gradient(dh * (V(1) - z));
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void first_backward(const M& m, const Pack<V, 3>& save,
                                                   const Pack<V, 1>& s_prev, const Pack<V, 1>&,
                                                   Pack<V, 1>& ds, Pack<V, 3>& dx, Pack<V, 3>&,
                                                   V& v) {
    const auto r = m.from_kept(Gate(), save[0]), z = m.from_kept(Gate(), save[1]);
    const V n = m.from_kept(Candidate(), save[2]).y, h = s_prev[0], dv = v;
    dx[0] = r.gradient(dv * h);
    dx[1] = z.gradient(ds[0] * (h - n));
    ds[0] = fma(ds[0], z.y, dv * r.y);
    v = r.y * h;
  }
};

}  // namespace fastrnn
