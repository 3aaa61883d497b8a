// The epilogues of forward: L units of one row, from the chains of a product to the states after
// the step, or to v.
#pragma once

#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class Math, class Storage> struct ForwardCell {
  using T = Acc<Storage>;
  using V = Vec<T>;
  static constexpr int L = V::kLanes, S = Cell::kStates;
  static constexpr int kFirstSaved = Phases<Cell>::kFirstSaved;
  static constexpr bool kProjects = Phases<Cell>::kProjects;

  // Where the units of a row begin.
  struct Row {
    PerState<ConstValues, Storage> before;
    PerState<Values, Storage> after;
    Storage* saved;  // null where no tape is kept
    Storage* v;
    const T* w_diag;
  };

  const Math math;
  const int64_t H;

  // A cell of one phase. x: projection, r: the chains that h continued.
  template <class Load, class Store>
  FASTRNN_INLINE void whole(const Row& row, const T* x, const T* r, Load from, Store to) const {
    Gates<V, Cell> xs, rs;
    Pack<V, S> states;
    Pack<V, Cell::kSaved> saved;
    load_gates<Phase<Cell, 0>>(x, r, &xs, &rs);
    load_diag<Cell>(row.w_diag, &xs);
    each_state<S>([&](auto k) { states[k.value] = from(row.before.at(k)); });
    Cell::forward(math, xs, rs, states, saved);
    each_state<S>([&](auto k) { to(states[k.value], row.after.at(k)); });
    if (row.saved)
      for (int k = 0; k < Cell::kSaved; ++k) to(saved[k], row.saved + k * H);
  }

  // Of two phases the one that makes v. What it saves takes the place of the projection, where the
  // second phase finds it. (A projected h is as wide as P, and the cell does not read it.)
  template <class Load, class Store>
  FASTRNN_INLINE void first(const Row& row, T* x, const T* r, Load from, Store to) const {
    static_assert(kProjects || kFirstSaved <= Phase<Cell, 0>::kGates, "no room for what is saved");
    Gates<V, Cell> xs, rs;
    Pack<V, S> states;
    Pack<V, Cell::kSaved> saved;
    V v;
    load_gates<Phase<Cell, 0>>(x, r, &xs, &rs);
    load_diag<Cell>(row.w_diag, &xs);
    each_state<S>([&](auto k) {
      if constexpr (k.value > 0 || !kProjects) states[k.value] = from(row.before.at(k));
    });
    Cell::first(math, xs, rs, states, saved, v);
    to(v, row.v);
    each_state<S>([&](auto k) {
      if constexpr (k.value > 0) to(states[k.value], row.after.at(k));
    });
    if constexpr (!kProjects)
      for (int k = 0; k < kFirstSaved; ++k) saved[k].store(x + k * L);
    if (row.saved)
      for (int k = 0; k < kFirstSaved; ++k) to(saved[k], row.saved + k * H);
  }

  // The other one, which makes h. left: of the first phase, r: the chains that v continued.
  template <class Load, class Store>
  FASTRNN_INLINE void second(const Row& row, const T* left, const T* r, Load from, Store to) const {
    if constexpr (kProjects) {
      to(V::load(r), row.after.h);
    } else {
      Gates<V, Cell> xs, rs;
      Pack<V, Cell::kSaved> saved;
      for (int k = 0; k < kFirstSaved; ++k) saved[k] = V::load(left + k * L);
      load_gates<Phase<Cell, 1>>(r, r, &xs, &rs);
      V h = from(row.before.h);
      Cell::second(math, xs, h, saved);
      to(h, row.after.h);
      if (row.saved)
        for (int k = kFirstSaved; k < Cell::kSaved; ++k) to(saved[k], row.saved + k * H);
    }
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
