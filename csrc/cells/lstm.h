// LSTM with forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000), the form
// of torch.nn.LSTM:
//
//   i = sigmoid(x_i)   f = sigmoid(x_f)   g = tanh(x_g)   o = sigmoid(x_o)
//   c' = f * c + i * g
//   h' = o * tanh(c')
//
// With peepholes (Gers & Schmidhuber 2000) the gates see the cell state: p_i * c is added to x_i,
// p_f * c to x_f, and p_o * c' to x_o.
#pragma once

#include "gates.h"

namespace fastrnn {

template <bool kPeepholes> struct LstmOf {
  static constexpr int kGates = 4, kStates = 2, kSaved = 4;
  static constexpr unsigned kSplit = 0;
  static constexpr int kUnit = kPeepholes ? 3 : 0;
  template <class V> using Gates = Pack<V, kGates + kUnit>;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void forward(const M& m, const Gates<V>& x, const Gates<V>&,
                                            Pack<V, 2>& s, Pack<V, 4>& save) {
    const V x_i = peep(m, x, 0, s[1], x[0]), x_f = peep(m, x, 1, s[1], x[1]);
    const V i = m.value(Gate(), x_i), f = m.value(Gate(), x_f), g = m.value(Candidate(), x[2]);
    const V c = m.state(next_c(f, s[1], i, g));
    const V x_o = peep(m, x, 2, c, x[3]), o = m.value(Gate(), x_o);
    s[0] = o * m.value(Output(), c);
    s[1] = c;
    save = {m.kept(x_i, i), m.kept(x_f, f), m.kept(x[2], g), m.kept(x_o, o)};
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void backward(const M& m, const Pack<V, 4>& save,
                                             const Pack<V, 2>& s_prev, const Pack<V, 2>& s,
                                             Pack<V, 2>& ds, Gates<V>& dx, Gates<V>&) {
    const auto i = m.from_kept(Gate(), save[0]), f = m.from_kept(Gate(), save[1]),
               g = m.from_kept(Candidate(), save[2]), o = m.from_kept(Gate(), save[3]),
               out = m.from_input(Output(), s[1]);
    dx[3] = o.gradient(ds[0] * out.y);
    const V dc = m.state_gradient(next_c(f.y, s_prev[1], i.y, g.y),
                                  peep(m, dx, 2, dx[3], out.gradient(ds[0] * o.y, ds[1])));
    dx[0] = i.gradient(dc * g.y);
    dx[1] = f.gradient(dc * s_prev[1]);
    dx[2] = g.gradient(dc * i.y);
    ds[0] = V(0);
    ds[1] = peep(m, dx, 0, dx[0], peep(m, dx, 1, dx[1], dc * f.y));
    if constexpr (kPeepholes) {
      dx[4] = dx[0] * s_prev[1];
      dx[5] = dx[1] * s_prev[1];
      dx[6] = dx[3] * s[1];
    }
  }

  // h' again, for projected.h.
  template <class M, class V>
  static FASTRNN_CELL_FUNCTION V output(const M& m, const Pack<V, 4>& save, const Pack<V, 2>& s) {
    return m.from_kept(Gate(), save[3]).y * m.value(Output(), s[1]);
  }

 private:
  template <class V> static FASTRNN_CELL_FUNCTION V next_c(V f, V c, V i, V g) {
    return fma(f, c, i * g);
  }
  // Adds peephole k of those that follow the gates, times a.
  template <class M, class V>
  static FASTRNN_CELL_FUNCTION V peep(const M& m, const Gates<V>& x, int k, V a, V to) {
    if constexpr (kPeepholes)
      return m.peephole(x[kGates + k], a, to);
    else
      return to;
  }
};

using Lstm = LstmOf<false>;
using PeepholeLstm = LstmOf<true>;

}  // namespace fastrnn
