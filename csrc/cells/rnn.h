// The simple recurrent layer (Elman 1990), the form of torch.nn.RNN:
//
//   h' = activation(x)
#pragma once

#include "gates.h"

namespace fastrnn {

// kFromOutput: nothing is saved, since what is kept of the function is its value h', which the
// output holds; so the maths may not clip it.
template <class Activation, bool kFromOutput> struct RnnOf {
  static constexpr int kGates = 1, kStates = 1, kSaved = kFromOutput ? 0 : 1, kUnit = 0;
  static constexpr unsigned kSplit = 0;

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void forward(const M& m, const Pack<V, 1>& x, const Pack<V, 1>&,
                                            Pack<V, 1>& s, Pack<V, kSaved>& save) {
    const V h = m.value(Activation(), x[0]);
    s[0] = m.state(h);
    if constexpr (!kFromOutput) save[0] = m.kept(x[0], h);
  }

  template <class M, class V>
  static FASTRNN_CELL_FUNCTION void backward(const M& m, const Pack<V, kSaved>& save,
                                             const Pack<V, 1>&, const Pack<V, 1>& s, Pack<V, 1>& ds,
                                             Pack<V, 1>& dx, Pack<V, 1>&) {
    if constexpr (kFromOutput) {
      dx[0] = m.gradient(Activation(), s[0], ds[0]);
    } else {
      const auto h = m.from_kept(Activation(), save[0]);
      dx[0] = h.gradient(m.state_gradient(h.y, ds[0]));
    }
    ds[0] = V(0);
  }
};

template <class Activation> using Rnn = RnnOf<Activation, true>;
using AnyRnn = RnnOf<Gate, false>;

}  // namespace fastrnn
