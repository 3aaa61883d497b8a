// The projection of the output of a cell (Sak, Senior & Beaufays 2014; torch's proj_size), as a
// step's second phase:
//
//   v = the cell's h'
//   h' = W_hr v
//
// h then has P values, where the cell's units and its other states are H. So a cell can be
// projected that does not read h unit by unit, and that makes its output again from what it has
// saved (`output`).
#pragma once

#include "lstm.h"

namespace fastrnn {

template <class Cell> struct Projected : Cell {
  static constexpr bool kProjects = true;
  static constexpr int kStates = Cell::kStates, kFirstSaved = Cell::kSaved;
  static constexpr unsigned kSecond = 0;  // W_hr stands in no gate's place

  template <class M, class X, class S, class Save, class V>
  static FASTRNN_CELL_FUNCTION void first(const M& m, const X& x, const X& r, S& s, Save& save,
                                          V& v) {
    Cell::forward(m, x, r, s, save);
    v = s[0];
  }

  template <class M, class X, class S, class Save, class V>
  static FASTRNN_CELL_FUNCTION void first_backward(const M& m, const Save& save, const S& s_prev,
                                                   const S& s, S& ds, X& dx, X& dr, V& v) {
    ds[0] = v;
    Cell::backward(m, save, s_prev, s, ds, dx, dr);
    v = Cell::output(m, save, s);
  }
};

}  // namespace fastrnn
