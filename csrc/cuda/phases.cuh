// The stepwise mode of cells whose step has two products (cells/gates.h). The library makes both,
// and a launch after each, going back before each, does the rest of its phase:
//
//   forward    R h     first_forward     v and the states beside h
//              R v     second_forward    h, which may be the product itself (a projection)
//   backward   second_backward   the gradients of v's gates, or of a projected h   dv
//              first_backward    those of the other gates, and v again             dh
//
// A thread takes a unit of a row, or a value of its h where there are more or fewer of them.
//
// Bound: as in stepwise.cuh.
#pragma once

#include <type_traits>

#include "stepwise.cuh"

namespace fastrnn {
namespace gpu {

template <class Cell> using RowsOf =
    typename std::conditional<Phases<Cell>::kProjects, ProjectedRows, RowsOfUnits>::type;

// ---- forward ------------------------------------------------------------------------------------

template <class Cell, class Math, class S> struct ForwardPhases {
  using Unit = ForwardUnit<Cell, Math, S, RowsOf<Cell>>;
  using At = typename Unit::At;
  using A = Acc<S>;
  using V = Real<A>;
  using K = CellTraits<Cell>;
  static constexpr bool kProjects = Phases<Cell>::kProjects;
  static constexpr int kFirstSaved = Phases<Cell>::kFirstSaved;
  static_assert(kProjects || kFirstSaved <= K::kFirstGates, "no room for what is saved");

  static FASTRNN_DEVICE void first(const At& at, int64_t s, int64_t b, int64_t u) {
    const int64_t length = length_of(at.pass.scan, b), t = at.time(s), i = b * at.pass.H + u;
    Pack<A, K::S - 1> carry;
    for (int k = 1; k < K::S; ++k) carry[k - 1] = static_cast<const A*>(at.d.carry[k])[i];
    if (at.runs(t, b, length)) step(at, {s, t, b, u}, at.before(t, b, length), {carry.v, 1});
    Unit::store_states(at, {s, t, b, u}, {carry.v, 1});
    for (int k = 1; k < K::S; ++k) static_cast<A*>(at.d.carry[k])[i] = carry[k - 1];
    if (s + 1 == at.pass.scan.T) leave_states(at, i, {carry.v, 1});
  }

  // u: a value of h.
  static FASTRNN_DEVICE void second(const At& at, int64_t s, int64_t b, int64_t u) {
    const int64_t length = length_of(at.pass.scan, b), t = at.time(s);
    const bool runs = at.runs(t, b, length);
    S* const to = row_of<S>(at.d.h, t, b) + u;
    if (runs || !at.pass.recompute) {
      const S h = runs                       ? output(at, {s, t, b, u}, at.before(t, b, length))
                  : at.repeats(t, b, length) ? h_before(at, b, u, at.before(t, b, length))
                                             : narrow<S>(A(0));
      if (!at.pass.recompute) *to = h;
    }
    if (runs) static_cast<S*>(at.d.factor[0])[b * at.h_width() + u] = *to;
    if (s + 1 == at.pass.scan.T) leave_h(at, b, u, length);
  }

 private:
  // The final state of a row: value u of its h, and unit i of the whole batch of the others.
  static FASTRNN_DEVICE void leave_h(const At& at, int64_t b, int64_t u, int64_t length) {
    if (at.d.final[0])
      static_cast<S*>(at.d.final[0])[b * at.h_width() + u] = h_before(at, b, u, at.last(b, length));
  }
  static FASTRNN_DEVICE void leave_states(const At& at, int64_t i, Carried<A> carry) {
    for (int k = 1; k < K::S; ++k)
      if (at.d.final[k]) static_cast<A*>(at.d.final[k])[i] = carry[k - 1];
  }

  static FASTRNN_DEVICE S h_before(const At& at, int64_t b, int64_t u, int64_t before) {
    const S* h = at.template h_of<S>(before, b);
    return h ? h[u] : narrow<S>(A(0));
  }

  // The gates from kBegin on to kEnd, with the sums of their product.
  template <int kBegin, int kEnd>
  static FASTRNN_DEVICE void make_gates(const At& at, const UnitIndex& i, bool from_zero,
                                        const void* product, typename Unit::Gates& x,
                                        typename Unit::Gates& r) {
    const int64_t H = at.pass.H;
    typename Unit::Inputs in = {};
    in.from_zero = from_zero;
    const S* from = row_of<const S>(at.d.x, at.window_time(i.t), i.b) + i.u;
    const S* made = static_cast<const S*>(product) + i.b * (kEnd - kBegin) * H + i.u;
    Pack<A, K::G> sums;
    for (int g = kBegin; g < kEnd; ++g) {
      in.x[g] = from[g * H];
      sums[g] = widen(made[(g - kBegin) * H]);
    }
    Unit::template add_up<kBegin, kEnd>(in, sums, x, r);
  }

  static FASTRNN_DEVICE void step(const At& at, const UnitIndex& i, int64_t before,
                                  Carried<A> carry) {
    const int64_t H = at.pass.H;
    const bool from_zero = before == Schedule::kZero;
    const typename Unit::Biases biases(at, i.u);
    typename Unit::Gates x = biases.x, r = biases.r;
    make_gates<0, K::kFirstGates>(at, i, from_zero, at.d.product[0], x, r);
    Pack<V, K::S> states;
    if constexpr (!kProjects) states[0] = V(widen(h_before(at, i.b, i.u, before)));
    for (int k = 1; k < K::S; ++k) states[k] = V(from_zero ? A(0) : carry[k - 1]);
    Pack<V, K::V> save;
    V v;
    Cell::first(Math(&at.d.maths), x, r, states, save, v);
    static_cast<S*>(at.d.factor[1])[i.b * H + i.u] = narrow<S>(v.v);
    for (int k = 1; k < K::S; ++k) carry[k - 1] = states[k].v;
    Unit::template store_saved<0, kFirstSaved>(at, i, save);
    // What the second phase finds of it stands in the place of the sums.
    S* left = static_cast<S*>(at.d.product[0]) + i.b * K::kFirstGates * H + i.u;
    for (int k = 0; k < kFirstSaved && !kProjects; ++k) left[k * H] = narrow<S>(save[k].v);
  }

  static FASTRNN_DEVICE S output(const At& at, const UnitIndex& i, int64_t before) {
    if constexpr (kProjects) {
      return static_cast<const S*>(at.d.product[1])[i.b * at.pass.P + i.u];
    } else {
      const int64_t H = at.pass.H;
      const typename Unit::Biases biases(at, i.u);
      typename Unit::Gates x = biases.x, r = biases.r;
      make_gates<K::kFirstGates, K::G>(at, i, before == Schedule::kZero, at.d.product[1], x, r);
      Pack<V, K::V> save;
      const S* left = static_cast<const S*>(at.d.product[0]) + i.b * K::kFirstGates * H + i.u;
      for (int k = 0; k < kFirstSaved; ++k) save[k] = V(widen(left[k * H]));
      V h(widen(h_before(at, i.b, i.u, before)));
      Cell::second(Math(&at.d.maths), x, h, save);
      Unit::template store_saved<kFirstSaved, K::V>(at, i, save);
      return narrow<S>(h.v);
    }
  }
};

// Scan step s, or with s = begin - 1 only the states that the window's first step goes on from.
template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    first_forward(FASTRNN_ARGUMENT ForwardPass pass, int64_t s) {
  if (!find_step(pass, &s)) return;
  using Step = ForwardPhases<Cell, Math, S>;
  const bool enters = s < pass.begin;
  const int64_t width = enters && pass.P > pass.H ? pass.P : pass.H;
  for_values(pass, width, [&](const ForwardDirection& d, int64_t b, int64_t u, int64_t) {
    const typename Step::At at{pass, d};
    if (enters)
      Step::Unit::enter(at, b, u, length_of(pass.scan, b));
    else
      Step::first(at, s, b, u);
  });
}

template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    second_forward(FASTRNN_ARGUMENT ForwardPass pass, int64_t s) {
  if (!find_step(pass, &s)) return;
  using Step = ForwardPhases<Cell, Math, S>;
  for_values(pass, pass.P, [&](const ForwardDirection& d, int64_t b, int64_t u, int64_t) {
    Step::second(typename Step::At{pass, d}, s, b, u);
  });
}

// ---- backward -----------------------------------------------------------------------------------

template <class Cell, class Math, class S> struct BackwardPhases {
  using Unit = BackwardUnit<Cell, Math, S, RowsOf<Cell>>;
  using At = typename Unit::At;
  using A = Acc<S>;
  using V = Real<A>;
  using K = CellTraits<Cell>;
  static constexpr bool kProjects = Phases<Cell>::kProjects;

  // u: a value of h.
  static FASTRNN_DEVICE void second(const At& at, int64_t s, int64_t b, int64_t u) {
    const int64_t length = length_of(at.pass.scan, b), t = at.time(s), i = b * at.h_width() + u;
    const bool runs = at.runs(t, b, length);
    A dh = of_h(at, s, b, u, length);
    if (runs || at.repeats(t, b, length)) dh = dh + widen(row_of<const S>(at.d.dy, t, b)[u]);
    if constexpr (kProjects) {
      const S made = narrow<S>(runs ? dh : A(0));
      row_of<S>(at.d.dprojected, at.window_time(t), b)[u] = made;
      static_cast<S*>(at.d.dproduct[1])[i] = made;
      if (runs) dh = A(0);  // all of it goes on by way of v
    } else {
      const int64_t H = at.pass.H;
      typename Unit::Gates dx = {};
      if (runs) {
        typename Unit::Inputs in = {};
        Unit::load_step(at, t, b, u, length, &in);
        V d(dh);
        Cell::second_backward(Math(&at.d.maths), Unit::saved_of(in), Unit::states_before(in)[0], d,
                              dx);
        dh = d.v;
      }
      S* dproduct = static_cast<S*>(at.d.dproduct[1]) + b * K::kSecondGates * H + u;
      store_gates<K::kFirstGates, K::G>(gates_of(at, t, b, u), dproduct, H, dx, dx);
    }
    static_cast<A*>(at.d.dstate[0])[i] = dh;
  }

  static FASTRNN_DEVICE void first(const At& at, int64_t s, int64_t b, int64_t u) {
    const int64_t length = length_of(at.pass.scan, b), t = at.time(s), H = at.pass.H, i = b * H + u;
    Pack<A, K::S> ds;
    of_states(at, s, b, u, length, ds);
    if constexpr (!kProjects) ds[0] = static_cast<const A*>(at.d.dstate[0])[i];
    typename Unit::Gates dx = {}, dr = {};
    V v(A(0));
    if (at.runs(t, b, length)) {
      v = V(widen(static_cast<const S*>(at.d.product[1])[i]));
      step(at, {s, t, b, u}, length, ds, dx, dr, v);
    }
    S* dproduct = static_cast<S*>(at.d.dproduct[0]) + b * K::kFirstGates * H + u;
    S* dgates = gates_of(at, t, b, u);
    store_gates<0, K::kFirstGates>(dgates, dproduct, H, dx, dr);
    Unit::store_unit(at, dgates, Unit::of_unit(dx));
    if (at.d.v.base) row_of<S>(at.d.v, at.window_time(t), b)[u] = narrow<S>(v.v);
    for (int k = kProjects; k < K::S; ++k) static_cast<A*>(at.d.dstate[k])[i] = ds[k];
  }

  // What the window's first step leaves for the states before, of i.
  static FASTRNN_DEVICE void leave(const At& at, int64_t b, int64_t i) {
    const int64_t s = at.pass.begin - 1, length = length_of(at.pass.scan, b);
    if (at.is_of_h(i)) Unit::store_dstate(at, 0, b * at.h_width() + i, of_h(at, s, b, i, length));
    if (!at.is_unit(i)) return;
    Pack<A, K::S> ds;
    of_states(at, s, b, i, length, ds);
    for (int k = 1; k < K::S; ++k) Unit::store_dstate(at, k, b * at.pass.H + i, ds[k]);
  }

 private:
  static FASTRNN_DEVICE S* gates_of(const At& at, int64_t t, int64_t b, int64_t u) {
    return row_of<S>(at.d.dgates, at.window_time(t), b) + u;
  }

  // The gradients of the gates of a product to their planes and to what the library multiplies
  // next.
  template <int kBegin, int kEnd>
  static FASTRNN_DEVICE void store_gates(S* dgates, S* dproduct, int64_t H,
                                         const typename Unit::Gates& dx,
                                         const typename Unit::Gates& dr) {
    for (int g = kBegin; g < kEnd; ++g) {
      const S x = narrow<S>(dx[g].v), r = K::is_split(g) ? narrow<S>(dr[g].v) : x;
      dgates[g * H] = x;
      if (K::is_split(g)) dgates[K::recurrent_plane(g) * H] = r;
      dproduct[(g - kBegin) * H] = r;
    }
  }

  // The gradient of a state after step s, but for what y adds: as the step after has left it.
  static FASTRNN_DEVICE A left(const At& at, int k, int64_t s, int64_t i) {
    return s + 1 == at.pass.end ? Unit::load_dstate(at, k, i)
                                : static_cast<const A*>(at.d.dstate[k])[i];
  }
  static FASTRNN_DEVICE A of_h(const At& at, int64_t s, int64_t b, int64_t u, int64_t length) {
    const int64_t i = b * at.h_width() + u;
    Pack<A, K::S> ds = {};
    ds[0] = left(at, 0, s, i);
    if (s + 1 < at.pass.end)
      Unit::pass_on(at, at.time(s + 1), b, length, widen(static_cast<const S*>(at.d.product[0])[i]),
                    {ds.v, 1});
    return ds[0];
  }
  // Those of the states beside h.
  static FASTRNN_DEVICE void of_states(const At& at, int64_t s, int64_t b, int64_t u,
                                       int64_t length, Pack<A, K::S>& ds) {
    ds[0] = A(0);
    for (int k = 1; k < K::S; ++k) ds[k] = left(at, k, s, b * at.pass.H + u);
    if (s + 1 < at.pass.end) Unit::pass_on(at, at.time(s + 1), b, length, A(0), {ds.v, 1});
  }

  // v: its gradient, and then itself.
  static FASTRNN_DEVICE void step(const At& at, const UnitIndex& i, int64_t length,
                                  Pack<A, K::S>& ds, typename Unit::Gates& dx,
                                  typename Unit::Gates& dr, V& v) {
    typename Unit::Inputs in = {};
    Unit::load_step(at, i.t, i.b, i.u, length, &in);
    Unit::take_parameters(Unit::constants_of(at, i.u), dx);
    Pack<V, K::S> d;
    for (int k = 0; k < K::S; ++k) d[k] = V(ds[k]);
    Cell::first_backward(Math(&at.d.maths), Unit::saved_of(in), Unit::states_before(in),
                         Unit::states_after(in), d, dx, dr, v);
    for (int k = 0; k < K::S; ++k) ds[k] = d[k].v;
  }
};

template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    first_backward(FASTRNN_ARGUMENT BackwardPass pass, int64_t s) {
  if (!find_step(pass, &s)) return;
  using Step = BackwardPhases<Cell, Math, S>;
  for_values(pass, pass.H, [&](const BackwardDirection& d, int64_t b, int64_t u, int64_t) {
    Step::first(typename Step::At{pass, d}, s, b, u);
  });
}

// Scan step s, or with s = begin - 1 only what the window's first step leaves for the states
// before.
template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    second_backward(FASTRNN_ARGUMENT BackwardPass pass, int64_t s) {
  if (!find_step(pass, &s)) return;
  using Step = BackwardPhases<Cell, Math, S>;
  const bool leaves = s < pass.begin;
  const int64_t width = leaves && pass.H > pass.P ? pass.H : pass.P;
  for_values(pass, width, [&](const BackwardDirection& d, int64_t b, int64_t u, int64_t) {
    const typename Step::At at{pass, d};
    if (leaves)
      Step::leave(at, b, u);
    else
      Step::second(at, s, b, u);
  });
}

}  // namespace gpu
}  // namespace fastrnn
