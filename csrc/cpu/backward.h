// Backward over one layer in one direction (BPTT).
//
// Going back in time, dh = dgates R is the GEMM of a step and the cell's backward its epilogue. (A
// cell of two phases has another after it, which gives the gradient of v.) Per chunk of steps the
// gradients of the gates are then used three ways: for dx = dgates W, by the part that owns the
// rows, and once all parts have come so far for the gradients of the two weights
// (weight_gradients.h). A pass may come in windows of steps, the last one first; `shared` carries
// the chains of sums from one to the next.
#pragma once

#include "back_product.h"
#include "backward_cell.h"
#include "weight_gradients.h"

namespace fastrnn {

namespace FASTRNN_ISA {

// Arrays, weights, h and its gradient are of type Storage; the cell state and its gradient, sums
// and arithmetic are Acc<Storage>. The gradients of the gates are factors of products, rounded to
// what Storage holds.
template <class Cell, class Math, class Storage> struct Backward : InCallerMemory {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using F = Factor<Storage>;
  static constexpr int L = V::kLanes, G = Cell::kGates, S = Cell::kStates;
  static constexpr int kPhases = Phases<Cell>::kCount;
  using Memory = BackwardMemory<Cell, Storage>;
  static constexpr int kPanel = Memory::kPanel, kRows = Memory::kRows;
  using Back = BackProduct<Cell, Storage>;
  using ChainTiles = typename Back::ChainTiles;
  using Epilogues = BackwardCell<Cell, Math, Storage>;
  using Chain = typename Back::Chain;
  struct Units {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
  };

  const BackwardPass& pass;
  const ThreadWork& work;
  const Steps<BackwardPass> steps;
  const int64_t H, I, P, B;
  const GradientRow<Cell> gradient;
  const int64_t width;
  const Units values, units;  // the part's own of h, and of what has a value of each unit
  const Back to_h, to_v;
  const Epilogues cell;

  const Memory memory;
  const WeightGradients<Cell, Storage> weights;
  const GateGradients<F> dgates;
  // The rows of a step.
  RowCursor<const Storage> dy, saved, x, mask;
  RowCursor<Storage> dx;
  template <class U> using ConstRowCursor = RowCursor<const U>;
  PerState<ConstRowCursor, Storage> after;
  // Where the part is: what comes next; the chunk [chunk_begin, end), `step` the last one taken.
  enum { kBegin, kSteps, kInputGradients, kWeights } next = kBegin;
  int64_t last, end, chunk_begin, step;
  int64_t active, all;       // rows at `step`: of the part, of all
  F *latest, *entering;      // dgates of all rows at `step`, and at `end`
  int64_t count, all_count;  // rows of the chunk's steps, of the part and of all
  int phase = 0;             // where a task is a phase of a step

  Backward(const BackwardPass& p, const ThreadWork& w)
      : pass(p),
        work(w),
        steps(p),
        H(p.H),
        I(p.I),
        P(p.P),
        B(p.scan->B),
        gradient{p.H, p.P},
        width(gradient.width()),
        values(own_part(p.P)),
        units(own_part(p.H)),
        to_h(Back::template of<0>(p)),
        to_v(Back::template of<1>(p)),
        cell{Math(p.maths), p.H, gradient},
        memory(Memory::of(p, w)),
        weights(p, w, memory),
        dgates(weights.dgates),
        dy{memory.dy, p.dy, w.row_begin},
        saved{memory.saved, p.saved, w.row_begin},
        x{memory.x, p.x, w.row_begin},
        mask{memory.mask, p.mask, w.row_begin},
        dx{memory.dx, p.dx, w.row_begin} {
    each_state<S>(
        [&](auto k) { after.at(k) = {memory.after.at(k), p.states[k.value], w.row_begin}; });
  }

  Units own_part(int64_t n) const {
    const auto begin_of = [&](int member) {
      return min(recurrence_part(blocks_of(n, L), work, member) * L, n);
    };
    return {begin_of(work.unit_member), begin_of(work.unit_member + 1)};
  }
  // Values of a state of a row, and the part's own of them.
  template <int k> int64_t width_of(Index<k>) const { return k == 0 ? P : H; }
  template <int k> const Units& own_of(Index<k>) const { return k == 0 ? values : units; }
  template <int k> T* ds_row(Index<k> state, int64_t position) const {
    return memory.ds[k] + position * width_of(state);
  }

  // A task is one of these: the steps of a chunk, or a phase of a step where parts share rows; dx,
  // with x, h and v packed for all parts; the weight gradients.
  Need task() {
    switch (next) {
      case kBegin: begin(); break;
      case kSteps: break;
      case kInputGradients: return take_input_gradients();
      case kWeights: return add_weights();
    }
    if (end == pass.begin) return finish();
    if (step == end) start_chunk();
    if (work.recurrence_threads > 1)
      take_phase();
    else
      while (step > chunk_begin) step_back();
    if (step == chunk_begin && phase == 0) next = kInputGradients;
    return work.unit_members > 1 ? Need::kGroup : Need::kNothing;
  }

  void begin() {
    next = kSteps;
    last = B ? steps.scan.length[0] : 0;  // of all parts, which wait for each other at each chunk
    const bool is_last = pass.end >= last;
    if (is_last) clear_idle_rows();
    active = is_last ? 0 : steps.grow(work.row_begin, work.row_end, 0, pass.end);
    seek(0, active, pass.end);
    all = is_last ? 0 : steps.grow(0, B, 0, pass.end);
    step = end = max(pass.begin, min(pass.end, last));
    latest = dgates.carry[is_last ? 0 : *memory.carried];
  }

  // As many steps as there is room for, the same for all parts.
  void start_chunk() {
    count = all_count = 0;
    entering = latest;
    int64_t room = pass.chunk_rows, rows = all;
    for (chunk_begin = end - 1; chunk_begin > pass.begin; --chunk_begin) {
      rows = steps.grow(0, B, rows, chunk_begin);
      room -= rows;
      if (room < 0) break;
    }
  }

  void step_back() {
    take_last_phase();
    if constexpr (kPhases > 1) take_first_phase();
  }

  void take_phase() {
    if (phase == 0) take_last_phase();
    if constexpr (kPhases > 1) {
      if (phase == 1) take_first_phase();
      phase = 1 - phase;
    }
  }

  void take_last_phase() {
    --step;
    active = retreat_to(step, active);
    all = steps.grow(0, B, all, step);
    const F* after = latest;
    latest = step == chunk_begin ? dgates.other_carry(entering) : dgates.chunk + all_count * width;
    list_rows(active, count, all_count);
    count += active, all_count += all;
    take_step(step, active, after);
  }

  Need take_input_gradients() {
    input_gradients(count);
    if (pass.dw_ih) weights.pack_b(memory.listed, count, all_count);
    next = kWeights;
    return Need::kTeam;  // all parts read what all have written
  }

  Need add_weights() {
    const bool begins = pass.end >= last && end == last;
    if (pass.dw_ih) weights.add(all_count, latest, all, begins, chunk_begin == 0);
    end = chunk_begin;
    next = kSteps;
    return end > pass.begin ? Need::kTeam : finish();  // no part overwrites it before all have
  }

  Need finish() {
    *memory.carried = latest == dgates.carry[1];
    if (last == 0 && pass.dw_ih) weights.add(0, latest, 0, true, true);
    if (pass.begin == 0) initial_gradients();
    return Need::kEnd;
  }

  // ---- one step ----------------------------------------------------------------------------

  void seek(int64_t begin, int64_t end, int64_t s) {
    dy.seek(steps, begin, end, s), saved.seek(steps, begin, end, s);
    x.seek(steps, begin, end, s), mask.seek(steps, begin, end, s), dx.seek(steps, begin, end, s);
    each_state<S>([&](auto k) { after.at(k).seek(steps, begin, end, s); });
  }

  // From step s + 1, where `count` rows were active, to step s; returns how many are now.
  int64_t retreat_to(int64_t s, int64_t count) {
    dy.retreat(steps, count, s + 1), saved.retreat(steps, count, s + 1);
    x.retreat(steps, count, s + 1), mask.retreat(steps, count, s + 1),
        dx.retreat(steps, count, s + 1);
    each_state<S>([&](auto k) { after.at(k).retreat(steps, count, s + 1); });
    const int64_t active = steps.grow(work.row_begin, work.row_end, count, s);
    seek(count, active, s);
    each_state<S>([&](auto k) {
      const Sequence& states = pass.states[k.value];
      const int64_t stride = s > pass.begin ? steps.stride(states, s - 1) : 0;
      const bool scattered = steps.is_scattered(states);
      for (int64_t r = 0; r < active; ++r) {
        const int64_t position = work.row_begin + r;
        memory.before.at(k)[r] =
            s == pass.begin ? steps.entering(k.value, position, memory.zero_state.at(k))
            : scattered
                ? steps.template row<const StateType<Storage, k.value>>(states, position, s - 1)
                : after.at(k).at[r] - stride;
      }
    });
    if (steps.schedule().may_start_from_zero())
      for (int64_t r = 0; r < active; ++r)
        if (steps.starts_from_zero(work.row_begin + r, s))
          each_state<S>([&](auto k) { memory.before.at(k)[r] = memory.zero_state.at(k); });
    return active;
  }

  // Lists the step's rows in listed[at, ...); k: the index of its first row among all parts'.
  void list_rows(int64_t active, int64_t at, int64_t k) {
    const F* row = own_rows(latest);
    for (int64_t r = 0; r < active; ++r, row += width)
      memory.listed[at + r] = {row,
                               x.at[r],
                               mask.at[r],
                               memory.before.h[r],
                               dx.at[r],
                               k + work.row_begin + r,
                               work.row_begin + r};
  }

  template <class U> U* own_rows(U* of_all) const { return of_all + work.row_begin * width; }

  // after: dgates of all rows at the step after this one.
  void take_step(int64_t s, int64_t active, const F* after) {
    int64_t n = 0, starting = active;
    for (int64_t r = 0; r < active; ++r) {
      const int64_t position = work.row_begin + r;
      const bool ends = steps.scan.length[position] == s + 1;
      if (ends || steps.starts_from_zero(position, s + 1)) {
        begin_chain(position, ends);
        memory.continuing[--starting] = r;
      } else {
        memory.continuing[n++] = r;
      }
      if (steps.repeats() && steps.has_idle_rows(pass.dy)) add_repeats(position, s);
    }
    F* target = own_rows(latest);
    const auto gradients = [&](int64_t r, int64_t u, int64_t units, const T* chain) {
      apply_cell<kPhases - 1>(r, u, units, chain, target);
    };
    const auto continuing = [&](int64_t i) { return memory.continuing[i]; };
    multiply(to_h, values, own_rows(after), n, continuing, gradients);
    for (int64_t i = starting; i < active; ++i)
      gradients(memory.continuing[i], values.begin, values.count(), memory.zeros);
  }

  // Of two phases the one that has made v, when the other's gradients are there.
  void take_first_phase() {
    F* target = own_rows(latest);
    multiply(to_v, units, target, active, in_order,
             [&](int64_t r, int64_t u, int64_t units, const T* chain) {
               apply_cell<0>(r, u, units, chain, target);
             });
  }

  static int64_t in_order(int64_t i) { return i; }

  // A product with n rows of gradients, the i-th of them row_of(i) of `rows`, for the part's own
  // columns. Calls use(row, u, units, chain) with what it gives for `units` columns from u on.
  template <class RowOf, class Use> void multiply(const Back& product, const Units& own,
                                                  const F* rows, int64_t n, RowOf row_of,
                                                  Use use) const {
    TileArgs<T> args;
    args.shared_init = memory.zeros, args.shared = kAllVectors;
    alignas(64) T acc[kRows * kMostVectors * L];
    for (int64_t u = own.begin; u < own.end;) {
      const Chain chain(product, u, own.end, n == 1, &args);
      for (int64_t done = 0; done < n;) {
        const int R = next_rows(n - done, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = rows + row_of(done + r) * width + product.from;
          args.out[r] = acc + r * chain.vectors * L;
        }
        if (product.masks.count())
          chain.masked_tile(product, u, args, R, memory.apart,
                            [&](int r) { return work.row_begin + row_of(done + r); });
        else
          chain.tile(R, &args);
        for (int r = 0; r < R; ++r, ++done) use(row_of(done), u, chain.units, args.out[r]);
      }
      u += chain.units;
    }
  }

  // The gradient that enters at the last step of a row. (None enters before a reset.)
  void begin_chain(int64_t position, bool row_ends) {
    each_state<S>([&](auto k) {
      const auto* given =
          row_ends ? steps.template state<Storage>(pass.dfinal, k, position) : nullptr;
      if (!given) given = memory.zero_state.at(k);
      const Units& own = own_of(k);
      widen_n(given + own.begin, own.count(), ds_row(k, position) + own.begin);
    });
  }

  // The gradients of outputs that repeat the one of step s.
  void add_repeats(int64_t position, int64_t s) {
    T* to = ds_row(Index<0>{}, position) + values.begin;
    steps.for_repeats(position, s, [&](int64_t t) {
      const auto* from = row_at<const Storage>(pass.dy, t, steps.scan.row[position]) + values.begin;
      for (int64_t i = 0; i < values.count(); ++i) to[i] += widen(from[i]);
    });
  }

  // The epilogue of a phase: `units` units from u on of one row, for which `chain` is the product.
  template <int p> FASTRNN_INLINE void apply_cell(int64_t r, int64_t u, int64_t units,
                                                  const T* chain, F* target) const {
    typename Epilogues::Row row;
    row.saved = saved.at[r] + u;
    row.dy = dy.at[r] + u;
    row.out = target + r * width + u;
    row.w_diag = static_cast<const T*>(pass.w.w_diag) + u * Cell::kUnit;
    each_state<S>([&](auto k) {
      row.before.at(k) = memory.before.at(k)[r] + u;
      row.after.at(k) = after.at(k).at[r] + u;
      row.ds[k.value] = ds_row(k, work.row_begin + r) + u;
    });
    int64_t i = 0;
    for (; i + L <= units; i += L)
      apply_lanes<p>(
          row, i, chain, [](const auto* at) { return load(at); },
          [](V v, auto* at) { store(v, at); });
    if (i < units)
      apply_lanes<p>(
          row, i, chain, [n = units - i](const auto* at) { return load_part(at, n); },
          [n = units - i](V v, auto* at) { store_part(v, at, n); });
  }
  template <int p, class Load, class Store>
  FASTRNN_INLINE void apply_lanes(const typename Epilogues::Row& row, int64_t i, const T* chain,
                                  Load from, Store to) const {
    if constexpr (kPhases == 1)
      cell.whole(row, i, chain, from, to);
    else if constexpr (p == 1)
      cell.second(row, i, chain, from, to);
    else
      cell.first(row, i, chain, from, to);
  }

  // ---- per chunk ---------------------------------------------------------------------------

  int64_t flat_part(int64_t count, int member) const {
    return part(count, member, work.unit_members);
  }

  void input_gradients(int64_t count) {
    if (!pass.dx.base) return;
    TileArgs<T> args;
    args.K = G * H;
    args.shared_init = memory.zeros, args.shared = kAllVectors;
    alignas(64) T acc[kRows * kMostVectors * L];
    const int64_t end = flat_part(count, work.unit_member + 1);
    args.panel_step = kPanel * lanes_of<Storage>(args.K);
    for (int64_t n0 = 0, columns; n0 < I; n0 += columns) {
      const int panels = panels_at_once(false, kPanelVectors, 1, (I - n0) / kPanel);
      columns = min(panels * kPanel, I - n0);
      const int n = static_cast<int>(blocks_of(columns, L));
      args.b = matrix_at<Storage>(pass.w.w_ih, n0, G * H, I, &args.b_step);
      for (int64_t f = flat_part(count, work.unit_member); f < end;) {
        const int R = next_rows(end - f, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = memory.listed[f + r].dgates;
          args.out[r] = acc + r * n * L;
        }
        ChainTiles::run(R, n / panels, panels, &args);
        for (int r = 0; r < R; ++r, ++f) put_dx(memory.listed[f], n0, columns, args.out[r]);
      }
    }
  }

  void put_dx(const ChunkRow<Storage>& row, int64_t n0, int64_t columns, T* values) const {
    Storage* out = row.dx + n0;
    if (row.mask)
      for (int64_t i = 0; i < columns; ++i) values[i] *= widen(row.mask[n0 + i]);
    if (pass.accumulate_dx)
      for (int64_t i = 0; i < columns; ++i) values[i] = widen(out[i]) + values[i];
    narrow_n(values, columns, out);
  }

  // ---- edges -------------------------------------------------------------------------------

  // Gradients are zero where a row does not run.
  void clear_idle_rows() {
    if (!pass.dx.base || pass.accumulate_dx || work.unit_member != 0) return;
    if (!steps.has_idle_rows(pass.dx)) return;
    for (int64_t p = work.row_begin; p < work.row_end; ++p)
      steps.for_idle(
          p, [&](int64_t t) { clear_n(row_at<Storage>(pass.dx, t, steps.scan.row[p]), I); });
  }

  void initial_gradients() {
    const int64_t active = steps.grow(work.row_begin, work.row_end, 0, 0);
    for (int64_t p = work.row_begin + active; p < work.row_end; ++p) begin_chain(p, true);
    multiply(to_h, values, own_rows(latest), active, in_order,
             [&](int64_t r, int64_t u, int64_t units, const T* chain) {
               T* to = ds_row(Index<0>{}, work.row_begin + r) + u;
               for (int64_t i = 0; i < units; ++i) to[i] = chain[i] + to[i];
             });
    for (int64_t p = work.row_begin; p < work.row_end; ++p) put_initial(p);
  }

  void put_initial(int64_t position) const {
    // A row that starts from zero does not depend on its initial state.
    const bool cut = steps.scan.length[position] > 0 && steps.starts_from_zero(position, 0);
    each_state<S>([&](auto k) {
      auto* out = steps.template state<Storage>(pass.dinitial, k, position);
      if (!out) return;
      const T* own = ds_row(k, position);
      for (int64_t u = own_of(k).begin; u < own_of(k).end; ++u)
        narrow_to(cut ? T(0) : own[u], out + u);
    });
  }

  static int64_t shared(const PassSizes* sizes) {
    Memory memory;
    return memory.carve_shared(nullptr, *sizes);
  }
  static int64_t scratch(const PassSizes* sizes) {
    Memory memory;
    return memory.carve_own(nullptr, *sizes);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
