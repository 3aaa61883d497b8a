// Backward over one layer in one direction (BPTT).
//
// Going back in time, dh = dgates R is the GEMM of a step and the cell's backward its epilogue. Per
// chunk of steps the gradients of the gates are then used three ways: for dx = dgates W, by the
// part that owns the rows, and once all parts have come so far for the gradients of the two weights
// (weight_gradients.h). A pass may come in windows of steps, the last one first; `shared` carries
// the chains of sums from one to the next.
#pragma once

#include "weight_gradients.h"

namespace fastrnn {

namespace FASTRNN_ISA {

// Arrays, weights, h and its gradient are of type Storage; the cell state and its gradient, the
// gradients of the gates, sums and arithmetic are Acc<Storage>.
template <class Cell, class Math, class Storage> struct Backward : InCallerMemory {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using Plane = Planes<Cell>;
  static constexpr int L = V::kLanes, G = Cell::kGates, S = Cell::kStates;
  static constexpr int kPlanes = Plane::kAll, kSplitGates = Plane::kSplitGates;
  using Memory = BackwardMemory<Cell, Storage>;
  static constexpr int kPanel = Memory::kPanel, kRows = Memory::kRows;
  using ChainTiles = Tiles<T, Storage, LhsLayout::kRows, ~0u>;

  const BackwardPass& pass;
  const ThreadWork& work;
  const Steps<BackwardPass> steps;
  const Math math;
  const int64_t H, I, B, width, unit_begin, unit_end;
  const int chains;

  const Memory memory;
  const WeightGradients<Cell, Storage> weights;
  const GateGradients<T> dgates;
  // The rows of a step.
  RowCursor<const Storage> dy, saved, x, mask;
  RowCursor<Storage> dx;
  template <class U> using ConstRowCursor = RowCursor<const U>;
  PerState<ConstRowCursor, Storage> after;
  // Where the part is: what comes next; the chunk [chunk_begin, end), `step` the last one taken.
  enum { kBegin, kSteps, kInputGradients, kWeights } next = kBegin;
  int64_t last, end, chunk_begin, step;
  int64_t active, all;       // rows at `step`: of the part, of all
  T *latest, *entering;      // dgates of all rows at `step`, and at `end`
  int64_t count, all_count;  // rows of the chunk's steps, of the part and of all

  Backward(const BackwardPass& p, const ThreadWork& w)
      : pass(p),
        work(w),
        steps(p),
        math(p.maths),
        H(p.H),
        I(p.I),
        B(p.scan->B),
        width(kPlanes * p.H),
        unit_begin(unit_part(w.unit_member)),
        unit_end(unit_part(w.unit_member + 1)),
        chains(chains_for(blocks_of(p.H, L))),
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

  int64_t unit_part(int member) const {
    return min(recurrence_part(blocks_of(H, L), work, member) * L, H);
  }

  T* ds_row(int k, int64_t position) const { return memory.ds[k] + position * H; }

  // A task is one of these: the steps of a chunk, or a single step where parts share rows; dx, with
  // x and h packed for all parts; the weight gradients.
  Need task() {
    switch (next) {
      case kBegin: begin(); break;
      case kSteps: break;
      case kInputGradients: return take_input_gradients();
      case kWeights: return add_weights();
    }
    if (end == pass.begin) return finish();
    if (step == end) start_chunk();
    const int64_t stop = work.recurrence_threads > 1 ? step - 1 : chunk_begin;
    while (step > stop) step_back();
    if (step == chunk_begin) next = kInputGradients;
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
    --step;
    active = retreat_to(step, active);
    all = steps.grow(0, B, all, step);
    const T* after = latest;
    latest = step == chunk_begin ? dgates.other_carry(entering) : dgates.chunk + all_count * width;
    list_rows(active, count, all_count);
    count += active, all_count += all;
    take_step(step, active, after);
  }

  Need take_input_gradients() {
    input_gradients(count);
    if (pass.dw_ih) weights.pack_b(memory.listed, count);
    next = kWeights;
    return Need::kTeam;  // all parts read what all have written
  }

  Need add_weights() {
    const bool begins = pass.end >= last && end == last;
    if (pass.dw_ih) weights.add(all_count, latest, all, begins);
    end = chunk_begin;
    next = kSteps;
    return end > pass.begin ? Need::kTeam : finish();  // no part overwrites it before all have
  }

  Need finish() {
    *memory.carried = latest == dgates.carry[1];
    if (last == 0 && pass.dw_ih) weights.add(0, latest, 0, true);
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
    const T* row = own_rows(latest);
    for (int64_t r = 0; r < active; ++r, row += width)
      memory.listed[at + r] = {
          row, x.at[r], mask.at[r], memory.before.h[r], dx.at[r], k + work.row_begin + r};
  }

  template <class U> U* own_rows(U* of_all) const { return of_all + work.row_begin * width; }

  // after: dgates of all rows at the step after this one.
  void take_step(int64_t s, int64_t active, const T* after) {
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
    const T* source = own_rows(after) + kSplitGates * H;
    T* target = own_rows(latest);
    TileArgs<T, Storage> args;
    args.shared_init = memory.zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    for (int64_t u = unit_begin; u < unit_end;) {
      const Chain chain(*this, u, unit_end, n == 1, &args);
      for (int64_t done = 0; done < n;) {
        const int R = next_rows(n - done, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = source + memory.continuing[done + r] * width;
          args.out[r] = acc + r * chain.vectors * L;
        }
        chain.tile(R)(args);
        for (int r = 0; r < R; ++r, ++done)
          apply_cell(memory.continuing[done], u, chain.units, args.out[r], target);
      }
      for (int64_t done = starting; done < active; ++done)
        apply_cell(memory.continuing[done], u, chain.units, memory.zeros, target);
      u += chain.units;
    }
  }

  // dh = dgates R for the units that one tile computes, from u on: those of u's matrix panel, or of
  // two panels for a single row.
  struct Chain {
    int64_t units;
    int vectors, panels, chains;

    Chain(const Backward& of, int64_t u, int64_t end, bool one_row, TileArgs<T, Storage>* args)
        : panels(1), chains(of.chains) {
      units = min((u / kPanel + 1) * kPanel, end) - u;
      // Sums that are not cut have eight vectors or more; this part may hold fewer.
      if (one_row && chains == 1 && u % kPanel == 0 && u + 2 * kPanel <= end) panels = 2;
      units *= panels;
      vectors = static_cast<int>(blocks_of(units, L));
      args->K = G * of.H;
      args->chains = chains;
      args->panel_step = kPanel * args->K;
      args->b = of.matrix_at(of.pass.w.w_hh, u, of.H, &args->b_step);
    }
    Tile<T, Storage> tile(int R) const {
      return ChainTiles::get(R, vectors / panels, panels, chains);
    }
  };

  // Where column n of a packed (G*H, N) matrix starts, and its step per k.
  const Storage* matrix_at(const void* packed, int64_t n, int64_t N, int64_t* step) const {
    const int64_t panel = n / kPanel * kPanel;
    *step = blocks_of(min(kPanel, N - panel), L) * L;
    return static_cast<const Storage*>(packed) + panel * G * H + (n - panel);
  }

  // The gradient that enters at the last step of a row. (None enters before a reset.)
  void begin_chain(int64_t position, bool row_ends) {
    each_state<S>([&](auto k) {
      const auto* given =
          row_ends ? steps.template state<Storage>(pass.dfinal, k, position) : nullptr;
      if (!given) given = memory.zero_state.at(k);
      widen_n(given + unit_begin, unit_end - unit_begin, ds_row(k.value, position) + unit_begin);
    });
  }

  // The gradients of outputs that repeat the one of step s.
  void add_repeats(int64_t position, int64_t s) {
    T* to = ds_row(0, position) + unit_begin;
    steps.for_repeats(position, s, [&](int64_t t) {
      const auto* from = row_at<const Storage>(pass.dy, t, steps.scan.row[position]) + unit_begin;
      for (int64_t i = 0; i < unit_end - unit_begin; ++i) to[i] += widen(from[i]);
    });
  }

  // The epilogue: `units` units from u on of one row, whose dh through the gates is `chain` ...
  FASTRNN_INLINE void apply_cell(int64_t r, int64_t u, int64_t units, const T* chain,
                                 T* target) const {
    Row row;
    row.saved = saved.at[r] + u;
    row.dy = dy.at[r] + u;
    row.out = target + r * width + u;
    row.w_diag = static_cast<const T*>(pass.w.w_diag) + u * Cell::kUnit;
    each_state<S>([&](auto k) {
      row.before.at(k) = memory.before.at(k)[r] + u;
      row.after.at(k) = after.at(k).at[r] + u;
      row.ds[k.value] = ds_row(k.value, work.row_begin + r) + u;
    });
    int64_t i = 0;
    for (; i + L <= units; i += L)
      apply_lanes(
          row, i, chain, [](const auto* p) { return load(p); }, [](V v, auto* p) { store(v, p); });
    if (i < units)
      apply_lanes(
          row, i, chain, [n = units - i](const auto* p) { return load_part(p, n); },
          [n = units - i](V v, auto* p) { store_part(v, p, n); });
  }

  struct Row {
    const Storage *saved, *dy;
    PerState<ConstValues, Storage> before, after;
    T *ds[S], *out;
    const T* w_diag;
  };

  // ... L of them.
  template <class Load, class Store> FASTRNN_INLINE void apply_lanes(const Row& row, int64_t i,
                                                                     const T* chain, Load from,
                                                                     Store to) const {
    Pack<V, Cell::kSaved> kept;
    Pack<V, S> then, now, d;
    Gates<V, Cell> dgate, dr;
    for (int k = 0; k < Cell::kSaved; ++k) kept[k] = from(row.saved + k * H + i);
    each_state<S>([&](auto k) {
      then[k.value] = from(row.before.at(k) + i);
      now[k.value] = from(row.after.at(k) + i);
      d[k.value] = from(row.ds[k.value] + i);
    });
    d[0] = V::load(chain + i) + d[0] + from(row.dy + i);
    load_diag<Cell>(row.w_diag, i / L, &dgate);
    Cell::backward(math, kept, then, now, d, dgate, dr);
    for (int k = 0; k < S; ++k) to(d[k], row.ds[k] + i);
    for (int g = 0; g < G; ++g) {
      to(dgate[g], row.out + Plane::of_x(g) * H + i);
      if (Plane::is_split(g)) to(dr[g], row.out + Plane::of_r(g) * H + i);
    }
    for (int k = 0; k < Cell::kUnit; ++k) to(dgate[G + k], row.out + (Plane::kCount + k) * H + i);
  }

  // ---- per chunk ---------------------------------------------------------------------------

  int64_t flat_part(int64_t count, int member) const {
    return part(count, member, work.unit_members);
  }

  void input_gradients(int64_t count) {
    if (!pass.dx.base) return;
    TileArgs<T, Storage> args;
    args.K = G * H;
    args.shared_init = memory.zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    const int64_t end = flat_part(count, work.unit_member + 1);
    for (int64_t n0 = 0; n0 < I; n0 += kPanel) {
      const int64_t columns = min(kPanel, I - n0);
      const int N = static_cast<int>(blocks_of(columns, L));
      args.b = matrix_at(pass.w.w_ih, n0, I, &args.b_step);
      for (int64_t f = flat_part(count, work.unit_member); f < end;) {
        const int R = next_rows(end - f, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = memory.listed[f + r].dgates;
          args.out[r] = acc + r * N * L;
        }
        ChainTiles::get(R, N)(args);
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
    TileArgs<T, Storage> args;
    args.shared_init = memory.zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    const int64_t active = steps.grow(work.row_begin, work.row_end, 0, 0);
    const T* source = own_rows(latest) + kSplitGates * H;
    for (int64_t u = unit_begin; u < unit_end;) {
      const Chain chain(*this, u, unit_end, active == 1, &args);
      for (int64_t r0 = 0; r0 < active;) {
        const int R = next_rows(active - r0, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = source + (r0 + r) * width;
          args.out[r] = acc + r * chain.vectors * L;
        }
        chain.tile(R)(args);
        for (int r = 0; r < R; ++r, ++r0)
          put_initial(work.row_begin + r0, u, chain.units, args.out[r]);
      }
      for (int64_t p = work.row_begin + active; p < work.row_end; ++p) {
        begin_chain(p, true);
        put_initial(p, u, chain.units, memory.zeros);
      }
      u += chain.units;
    }
  }

  void put_initial(int64_t position, int64_t u, int64_t units, const T* chain) const {
    // A row that starts from zero does not depend on its initial state.
    const bool cut = steps.scan.length[position] > 0 && steps.starts_from_zero(position, 0);
    each_state<S>([&](auto k) {
      auto* out = steps.template state<Storage>(pass.dinitial, k, position);
      if (!out) return;
      const T* own = ds_row(k.value, position) + u;
      for (int64_t i = 0; i < units; ++i) {
        const T sum = k.value == 0 ? chain[i] + own[i] : own[i];
        narrow_to(cut ? T(0) : sum, out + u + i);
      }
    });
  }

  static int64_t shared(int64_t I, int64_t H, int64_t B, int64_t chunk_rows) {
    Memory memory;
    return memory.carve_shared(nullptr, I, H, B, chunk_rows);
  }
  static int64_t scratch(int64_t H, int64_t B, int64_t rows, int64_t chunk_rows) {
    Memory memory;
    return memory.carve_own(nullptr, H, B, rows, chunk_rows);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
