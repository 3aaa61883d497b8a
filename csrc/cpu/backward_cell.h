// The epilogues of backward: L units of one row, from the chain of a product to the gradients of
// the gates and of the states before the step.
#pragma once

#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class Math, class Storage> struct BackwardCell {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using Plane = Planes<Cell>;
  static constexpr int G = Cell::kGates, S = Cell::kStates;
  static constexpr bool kProjects = Phases<Cell>::kProjects;

  // Where the units of a row begin.
  struct Row {
    const Storage *saved, *dy;
    PerState<ConstValues, Storage> before, after;
    T* ds[S];
    Factor<Storage>* out;
    const T* w_diag;
  };

  const Math math;
  const int64_t H;
  const GradientRow<Cell> gradient;

  // A cell of one phase. chain: what reaches h through the gates of the step after.
  template <class Load, class Store>
  FASTRNN_INLINE void whole(const Row& row, int64_t i, const T* chain, Load from, Store to) const {
    Pack<V, Cell::kSaved> kept;
    Pack<V, S> then, now, d;
    Gates<V, Cell> dgate, dr;
    load_step(row, i, from, &kept, &then, &now, &d);
    d[0] = V::load(chain + i) + d[0] + from(row.dy + i);
    load_diag<Cell>(row.w_diag + i * Cell::kUnit, &dgate);
    Cell::backward(math, kept, then, now, d, dgate, dr);
    for (int k = 0; k < S; ++k) to(d[k], row.ds[k] + i);
    for (int g = 0; g < G; ++g) store_gate(row, i, g, dgate, dr, to);
    store_units(row, i, dgate, to);
  }

  // Of two phases, going back, the second comes first: the gates of the product with v, or the
  // gradient of a projected h itself. That of h stays for the first phase.
  template <class Load, class Store>
  FASTRNN_INLINE void second(const Row& row, int64_t i, const T* chain, Load from, Store to) const {
    V dh = V::load(chain + i) + from(row.ds[0] + i) + from(row.dy + i);
    if constexpr (kProjects) {
      to(rounded<Storage>(dh), row.out + gradient.to_v() + i);
      to(V(T(0)), row.ds[0] + i);
    } else {
      Pack<V, Cell::kSaved> kept;
      Gates<V, Cell> dgate;
      for (int k = 0; k < Cell::kSaved; ++k) kept[k] = from(row.saved + k * H + i);
      const V h = from(row.before.h + i);
      Cell::second_backward(math, kept, h, dh, dgate);
      to(dh, row.ds[0] + i);
      for (int g = 0; g < G; ++g)
        if (Plane::is_second(g)) to(rounded<Storage>(dgate[g]), row.out + Plane::of_x(g) * H + i);
    }
  }

  // chain: the gradient of v.
  template <class Load, class Store>
  FASTRNN_INLINE void first(const Row& row, int64_t i, const T* chain, Load from, Store to) const {
    Pack<V, Cell::kSaved> kept;
    Pack<V, S> then, now, d;
    Gates<V, Cell> dgate, dr;
    V v = V::load(chain + i);
    load_step(row, i, from, &kept, &then, &now, &d);
    load_diag<Cell>(row.w_diag + i * Cell::kUnit, &dgate);
    Cell::first_backward(math, kept, then, now, d, dgate, dr, v);
    for (int k = kProjects; k < S; ++k) to(d[k], row.ds[k] + i);
    for (int g = 0; g < G; ++g)
      if (!Plane::is_second(g)) store_gate(row, i, g, dgate, dr, to);
    store_units(row, i, dgate, to);
    to(rounded<Storage>(v), row.out + gradient.v() + i);
  }

 private:
  // A projected h is as wide as P, and the cell does not read it.
  template <class Load> FASTRNN_INLINE void load_step(const Row& row, int64_t i, Load from,
                                                      Pack<V, Cell::kSaved>* kept, Pack<V, S>* then,
                                                      Pack<V, S>* now, Pack<V, S>* d) const {
    for (int k = 0; k < Cell::kSaved; ++k) (*kept)[k] = from(row.saved + k * H + i);
    each_state<S>([&](auto k) {
      if constexpr (k.value > 0 || !kProjects) {
        (*then)[k.value] = from(row.before.at(k) + i);
        (*now)[k.value] = from(row.after.at(k) + i);
        (*d)[k.value] = from(row.ds[k.value] + i);
      }
    });
  }
  template <class Store> FASTRNN_INLINE void store_gate(const Row& row, int64_t i, int g,
                                                        const Gates<V, Cell>& dgate,
                                                        const Gates<V, Cell>& dr, Store to) const {
    to(rounded<Storage>(dgate[g]), row.out + Plane::of_x(g) * H + i);
    if (Plane::is_split(g)) to(rounded<Storage>(dr[g]), row.out + Plane::of_r(g) * H + i);
  }
  // The gradients of the parameters of a unit.
  template <class Store> FASTRNN_INLINE void store_units(const Row& row, int64_t i,
                                                         const Gates<V, Cell>& dgate,
                                                         Store to) const {
    for (int k = 0; k < Cell::kUnit; ++k)
      to(rounded<Storage>(dgate[G + k]), row.out + gradient.of_units() + k * H + i);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
