// One unit of one row at one step: what surrounds the cell's equations in every mode.
#pragma once

#include "pass_view.cuh"

namespace fastrnn {
namespace gpu {

// ---- forward ------------------------------------------------------------------------------------

template <class Cell, class Math, class S, class Rows = RowsOfUnits> struct ForwardUnit {
  using A = Acc<S>;
  using V = Real<A>;
  using K = CellTraits<Cell>;
  using At = PassView<ForwardPass, ForwardDirection, Rows>;

  using Gates = Pack<V, K::G + K::U>;
  // Of a unit: columns of the recurrent product, the vectors of H values in a row of it, and values
  // that are carried from step to step.
  static constexpr int kColumns = K::G, kSegments = 1, kCarried = K::S - 1;

  // What the biases add to each gate, or to the two parts of one that is split; after them in x the
  // unit's own parameters.
  struct Biases {
    Gates x, r;

    FASTRNN_DEVICE Biases(const At& at, int64_t u) {
      for (int g = 0; g < K::G; ++g) {
        const A b_ih = bias(at.d.b_ih, g * at.pass.H + u),
                b_hh = bias(at.d.b_hh, g * at.pass.H + u);
        x[g] = V(K::is_split(g) ? b_ih : b_ih + b_hh);
        r[g] = V(K::is_split(g) ? b_hh : A(0));
      }
      for (int k = 0; k < K::U; ++k)
        x[K::G + k] = V(unit_parameter<S>(at.d.w_diag, k, at.pass.H, u));
    }
  };
  // What a unit keeps for a whole pass.
  using Constants = Biases;
  static FASTRNN_DEVICE Constants constants_of(const At& at, int64_t u) { return {at, u}; }

  // What a unit loads besides the recurrent sums, as it is stored: to convert it would be to wait
  // for it, and as it is the load can be in flight while the sums are made.
  struct Inputs {
    bool runs, from_zero;
    S h;  // of the step before; where the row does not run, what it gives out
    Pack<S, K::G> x;
  };

  static FASTRNN_DEVICE Inputs load(const At& at, int64_t t, int64_t b, int64_t u, int64_t length) {
    Inputs in = {};
    in.runs = at.runs(t, b, length);
    if (!in.runs && !at.repeats(t, b, length)) return in;
    const int64_t before = at.before(t, b, length);
    in.from_zero = before == Schedule::kZero;
    const S* h = at.template h_of<S>(before, b);
    in.h = h ? h[u] : narrow<S>(A(0));  // of this very thread, or from before the pass
    if (!in.runs) return in;
    const S* x = row_of<const S>(at.d.x, at.window_time(t), b) + u;
    for (int g = 0; g < K::G; ++g) in.x[g] = x[g * at.pass.H];
    return in;
  }

  // Adds to the biases of some gates W x and the recurrent sums.
  template <int kBegin, int kEnd> static FASTRNN_DEVICE void add_up(const Inputs& in,
                                                                    const Pack<A, K::G>& sums,
                                                                    Gates& x, Gates& r) {
    for (int g = kBegin; g < kEnd; ++g) {
      x[g] = V(widen(in.x[g])) + x[g];
      const V sum(in.from_zero ? A(0) : sums[g]);
      if (K::is_split(g))
        r[g] = r[g] + sum;
      else
        x[g] = x[g] + sum;
    }
  }

  // What a step has made and arrays do not have yet.
  struct Made {
    bool runs;
    S h;
    Pack<V, K::V> save;
  };

  // The step. sums: R h; carry: the cell state, before the step and then after it.
  static FASTRNN_DEVICE Made make(const At& at, const Inputs& in, const Biases& biases,
                                  const Pack<A, K::G>& sums, Carried<A> carry) {
    Made made = {in.runs, in.h, {}};
    if (!in.runs) return made;
    Gates x = biases.x, r = biases.r;
    add_up<0, K::G>(in, sums, x, r);
    Pack<V, K::S> states;
    states[0] = V(widen(in.h));
    for (int k = 1; k < K::S; ++k) states[k] = V(in.from_zero ? A(0) : carry[k - 1]);
    Cell::forward(Math(&at.d.maths), x, r, states, made.save);
    made.h = narrow<S>(states[0].v);
    for (int k = 1; k < K::S; ++k) carry[k - 1] = states[k].v;
    return made;
  }
  // Its place in the arrays. carry: the cell state after the step.
  static FASTRNN_DEVICE void store(const At& at, const UnitIndex& i, const Made& made,
                                   Carried<A> carry) {
    if (!at.pass.recompute) exchange_store(row_of<S>(at.d.h, i.t, i.b) + i.u, made.h);
    if (made.runs) store_saved<0, K::V>(at, i, made.save);
    store_states(at, i, carry);
  }
  static FASTRNN_DEVICE void finish(const At& at, const UnitIndex& i, const Inputs& in,
                                    const Biases& biases, const Pack<A, K::G>& sums,
                                    Carried<A> carry) {
    store(at, i, make(at, in, biases, sums, carry), carry);
  }
  // What the product of the step at `next` takes of this unit, after the step at t that gave h.
  static FASTRNN_DEVICE S factor(const At& at, int64_t next, const UnitIndex& i, int64_t length,
                                 S h) {
    if (!at.runs(next, i.b, length)) return narrow<S>(A(0));
    const int64_t before = at.before(next, i.b, length);
    if (before == i.t) return h;
    const S* from = at.template h_of<S>(before, i.b);
    return from ? from[i.u] : narrow<S>(A(0));
  }

  // Some of the saved values, where they are wanted.
  template <int kBegin, int kEnd>
  static FASTRNN_DEVICE void store_saved(const At& at, const UnitIndex& i,
                                         const Pack<V, K::V>& save) {
    if (!at.d.saved.base) return;
    S* saved = row_of<S>(at.d.saved, at.window_time(i.t), i.b) + i.u;
    for (int k = kBegin; k < kEnd; ++k) saved[k * at.pass.H] = narrow<S>(save[k].v);
  }
  // The cell state after a step, where it is kept.
  static FASTRNN_DEVICE void store_states(const At& at, const UnitIndex& i, Carried<A> carry) {
    const int64_t every = at.pass.state_every;
    const int64_t place = every > 1 ? quotient(i.s, every) : at.window_time(i.t);
    if (every > 1 && i.s + 1 != (place + 1) * every && i.s + 1 != at.pass.scan.T) return;
    for (int k = 1; k < K::S; ++k)
      if (at.d.state[k].base) row_of<A>(at.d.state[k], place, i.b)[i.u] = carry[k - 1];
  }

  // The cell state that a window starts with.
  static FASTRNN_DEVICE A entering(const At& at, int k, int64_t b, int64_t u) {
    const void* from = at.pass.begin > 0 ? at.d.entering[k] : at.d.initial[k];
    return from ? static_cast<const A*>(from)[b * at.pass.H + u] : A(0);
  }

  // Stepwise: the states that a window's first step goes on from, of u. A row that begins later, in
  // reverse, keeps its initial state until then.
  static FASTRNN_DEVICE void enter(const At& at, int64_t b, int64_t u, int64_t length) {
    if (at.is_of_h(u)) {
      const int64_t row = b * at.h_width(), t = at.time(at.pass.begin);
      const S* initial = static_cast<const S*>(at.d.initial[0]);
      const S* h = t < length ? at.template h_before<S>(t, b, length)
                   : initial  ? initial + row
                              : nullptr;
      static_cast<S*>(at.d.factor[0])[row + u] = h ? h[u] : narrow<S>(A(0));
    }
    if (at.is_unit(u))
      for (int k = 1; k < K::S; ++k)
        static_cast<A*>(at.d.carry[k])[b * at.pass.H + u] = entering(at, k, b, u);
  }

  // The final state of a row, once all its steps are done.
  static FASTRNN_DEVICE void leave(const At& at, int64_t b, int64_t u, int64_t length,
                                   Carried<A> carry) {
    const int64_t i = b * at.pass.H + u;
    if (at.d.final[0]) {
      const S* h = at.template h_of<S>(at.last(b, length), b);
      static_cast<S*>(at.d.final[0])[i] = h ? h[u] : narrow<S>(A(0));
    }
    for (int k = 1; k < K::S; ++k)
      if (at.d.final[k]) static_cast<A*>(at.d.final[k])[i] = carry[k - 1];
  }

 private:
  static FASTRNN_DEVICE A bias(const void* b, int64_t i) {
    return b ? widen(static_cast<const S*>(b)[i]) : A(0);
  }
};

// ---- backward -----------------------------------------------------------------------------------

template <class Cell, class Math, class S, class Rows = RowsOfUnits> struct BackwardUnit {
  using A = Acc<S>;
  using V = Real<A>;
  using K = CellTraits<Cell>;
  using At = PassView<BackwardPass, BackwardDirection, Rows>;
  using Gates = Pack<V, K::G + K::U>;
  static constexpr int kPlanes = K::planes();
  static constexpr int kColumns = 1, kSegments = K::G, kCarried = K::S;

  // What a unit keeps for a whole pass: its own parameters.
  using Constants = Pack<V, K::U>;
  static FASTRNN_DEVICE Constants constants_of(const At& at, int64_t u) {
    Constants found = {};
    for (int k = 0; k < K::U; ++k) found[k] = V(unit_parameter<S>(at.d.w_diag, k, at.pass.H, u));
    return found;
  }

  struct Inputs {
    bool runs, repeats, from_zero, first;
    S dy, h_before, h_after;
    Pack<A, K::S> before, after;  // from the second state on
    Pack<S, K::V> save;
  };

  static FASTRNN_DEVICE Inputs load(const At& at, int64_t t, int64_t b, int64_t u, int64_t length) {
    Inputs in = {};
    in.runs = at.runs(t, b, length);
    in.repeats = !in.runs && at.repeats(t, b, length);
    if (in.runs || in.repeats) in.dy = row_of<const S>(at.d.dy, t, b)[u];
    if (!in.runs) return in;
    load_step(at, t, b, u, length, &in);
    return in;
  }
  // Of a step that runs: the states around it, and what forward has saved.
  static FASTRNN_DEVICE void load_step(const At& at, int64_t t, int64_t b, int64_t u,
                                       int64_t length, Inputs* in) {
    const int64_t H = at.pass.H, in_window = at.window_time(t), before = at.before(t, b, length);
    in->first = before == Schedule::kInitial;
    in->from_zero = before == Schedule::kZero;
    if constexpr (!Rows::kProjects) {
      const S* h = at.template h_of<S>(before, b);
      in->h_before = h ? h[u] : narrow<S>(A(0));
      in->h_after = row_of<const S>(at.d.h, t, b)[u];
    }
    for (int k = 1; k < K::S; ++k) {
      in->after[k] = row_of<const A>(at.d.state[k], in_window, b)[u];
      in->before[k] = in->from_zero ? A(0) : state_before(at, k, t, b, u, in->first);
    }
    const S* saved = row_of<const S>(at.d.saved, in_window, b) + u;
    for (int i = 0; i < K::V; ++i) in->save[i] = saved[i * H];
  }

  // The gradient of a state where a window ends: of the final one, or what the window after it has
  // left.
  static FASTRNN_DEVICE A load_dstate(const At& at, int k, int64_t i) {
    if (at.pass.end < at.pass.scan.T) return static_cast<const A*>(at.d.dstate[k])[i];
    const void* given = at.d.dfinal[k];
    if (!given) return A(0);
    return k == 0 ? widen(static_cast<const S*>(given)[i]) : static_cast<const A*>(given)[i];
  }
  // And where it begins.
  static FASTRNN_DEVICE void store_dstate(const At& at, int k, int64_t i, A value) {
    if (at.pass.begin > 0)
      static_cast<A*>(at.d.dstate[k])[i] = value;
    else if (k == 0)
      static_cast<S*>(at.d.dinitial[0])[i] = narrow<S>(value);
    else
      static_cast<A*>(at.d.dinitial[k])[i] = value;
  }

  // Adds `sum`, the later step's gradients of the gates times R, to the gradients of the states
  // between both steps. t: of the later step.
  static FASTRNN_DEVICE void pass_on(const At& at, int64_t t, int64_t b, int64_t length, A sum,
                                     Carried<A> ds) {
    if (t >= length) return;
    const bool cut = at.starts_from_zero(t, b, length);
    ds[0] = cut ? A(0) : ds[0] + sum;
    for (int k = 1; k < K::S; ++k)
      if (cut) ds[k] = A(0);
  }

  // What a step has made and arrays do not have yet: the gradients of the planes, and of the unit's
  // own parameters. Zeros where it does not run.
  struct Made {
    Pack<S, kPlanes> planes;
    Pack<S, K::U> of_unit;
  };

  // The step. ds: the gradients of the states after it, and then of those before it.
  static FASTRNN_DEVICE Made make(const At& at, const Inputs& in, const Constants& own,
                                  Carried<A> ds) {
    Made made = {};
    if (in.runs || in.repeats) ds[0] = ds[0] + widen(in.dy);
    if (!in.runs) return made;
    Pack<V, K::S> d;
    for (int k = 0; k < K::S; ++k) d[k] = V(ds[k]);
    Gates dx, dr;
    take_parameters(own, dx);
    Cell::backward(Math(&at.d.maths), saved_of(in), states_before(in), states_after(in), d, dx, dr);
    for (int k = 0; k < K::S; ++k) ds[k] = d[k].v;
    for_constants<K::G>([&](auto constant) {
      constexpr int g = decltype(constant)::value;
      made.planes[g] = narrow<S>(dx[g].v);
      if constexpr (K::is_split(g)) made.planes[K::recurrent_plane(g)] = narrow<S>(dr[g].v);
    });
    made.of_unit = of_unit(dx);
    return made;
  }
  // Its place in the arrays.
  static FASTRNN_DEVICE void store(const At& at, int64_t t, int64_t b, int64_t u,
                                   const Made& made) {
    const int64_t H = at.pass.H;
    S* dgates = row_of<S>(at.d.dgates, at.window_time(t), b) + u;
    FASTRNN_UNROLL
    for (int i = 0; i < kPlanes; ++i) exchange_store(dgates + i * H, made.planes[i]);
    store_unit(at, dgates, made.of_unit);
  }
  static FASTRNN_DEVICE Made finish(const At& at, int64_t t, int64_t b, int64_t u, const Inputs& in,
                                    Carried<A> ds) {
    const Made made = make(at, in, constants_of(at, u), ds);
    store(at, t, b, u, made);
    return made;
  }
  // Calls f(g, value) with what the product of the step before takes of each gate.
  template <class F> static FASTRNN_DEVICE void for_factors(const Made& made, F f) {
    for_constants<K::G>([&](auto constant) {
      constexpr int g = decltype(constant)::value;
      f(g, made.planes[K::recurrent_plane(g)]);
    });
  }

  // The unit's own parameters behind the gates, and its gradients from there.
  static FASTRNN_DEVICE void take_parameters(const Constants& own, Gates& dx) {
    for (int k = 0; k < K::U; ++k) dx[K::G + k] = own[k];
  }
  static FASTRNN_DEVICE Pack<S, K::U> of_unit(const Gates& dx) {
    Pack<S, K::U> narrowed = {};
    for (int k = 0; k < K::U; ++k) narrowed[k] = narrow<S>(dx[K::G + k].v);
    return narrowed;
  }
  static FASTRNN_DEVICE void store_unit(const At& at, S* dgates, const Pack<S, K::U>& gradients) {
    for (int k = 0; k < K::U && at.d.w_diag; ++k) dgates[(kPlanes + k) * at.pass.H] = gradients[k];
  }

  // What was loaded, as the cell takes it.
  static FASTRNN_DEVICE Pack<V, K::S> states_before(const Inputs& in) {
    Pack<V, K::S> states;
    states[0] = V(widen(in.h_before));
    for (int k = 1; k < K::S; ++k) states[k] = V(in.before[k]);
    return states;
  }
  static FASTRNN_DEVICE Pack<V, K::S> states_after(const Inputs& in) {
    Pack<V, K::S> states;
    states[0] = V(widen(in.h_after));
    for (int k = 1; k < K::S; ++k) states[k] = V(in.after[k]);
    return states;
  }
  static FASTRNN_DEVICE Pack<V, K::V> saved_of(const Inputs& in) {
    Pack<V, K::V> save;
    for (int i = 0; i < K::V; ++i) save[i] = V(widen(in.save[i]));
    return save;
  }

 private:
  static FASTRNN_DEVICE A state_before(const At& at, int k, int64_t t, int64_t b, int64_t u,
                                       bool first) {
    const void* given = first ? at.d.initial[k] : at.d.entering[k];
    if (first || t == at.time(at.pass.begin))
      return given ? static_cast<const A*>(given)[b * at.pass.H + u] : A(0);
    return row_of<const A>(at.d.state[k], at.window_time(at.schedule().time_before(t)), b)[u];
  }
};

}  // namespace gpu
}  // namespace fastrnn
