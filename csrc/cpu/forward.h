// Forward over one layer in one direction.
//
// Per chunk of steps the inputs of all steps are projected by one GEMM (bias, then x in order of
// k); then each step continues those chains with h, and its epilogue is the cell. A cell of two
// phases does so twice in a step: the first epilogue makes v, with which the chains of the other
// gates go on, and the second one h. Parts that own rows never wait for each other. Of parts that
// share rows either each owns units, and a task is a phase of a step with a barrier after it; or
// the first runs the recurrence, and all project into its buffer, each some rows.
// The window that backward recomputes is the same pass over fewer steps.
#pragma once

#include "forward_cell.h"
#include "gate_product.h"
#include "recurrent_masks.h"

namespace fastrnn {

namespace FASTRNN_ISA {

// Arrays and h are of type Storage; the cell state, sums and arithmetic are Acc<Storage>. Products
// are those of the pass (ProductEntry): it says what weights are, and what is made of the rows of x
// and h that they are multiplied with.
template <class Cell, class Math, class Storage> struct Forward : InCallerMemory {
  using T = Acc<Storage>;
  using V = Vec<T>;
  static constexpr int L = V::kLanes, S = Cell::kStates;
  using Epilogues = ForwardCell<Cell, Math, Storage>;
  static constexpr int kPhases = Phases<Cell>::kCount, kLast = kPhases - 1;
  static constexpr bool kProjects = Phases<Cell>::kProjects;
  template <int phase> using Panels = StepPanels<Cell, phase, Storage>;
  static constexpr int kRows = Panels<0>::kRows;
  // What a phase computes, in blocks of units, and the part's own of it.
  struct Own {
    int64_t units, blocks, begin, end;
    int64_t row_width;
    int chains;
    T* projected;  // [flat][part's block][gate][lane]
  };

  const ForwardPass& pass;
  const ThreadWork& work;
  const GateProduct<T> product;
  const Steps<ForwardPass> steps;
  const Epilogues cell;
  const int64_t H, I, P, rows;
  Own own[kPhases];
  const void** input;  // [flat] factors of x for each (step, row) of the chunk
  RowCursor<const Storage> x, mask;
  PerState<ConstRows, Storage> prev;
  PerState<RowCursor, Storage> next;
  RowCursor<Storage> save;
  PerState<Values, Storage> zeros;  // [P], [H]
  char* staged;                     // [flat], factors of x where they are copies
  char* copies;                     // [rows], those of h, or of v
  Storage* v;                       // [rows][H], of the parts that share rows
  MaskedRows<Cell, Storage> masked;
  // Where the part is: the pass ends at `last`, the chunk at `end`.
  int64_t last, end, step, active;
  int64_t all;    // rows of all parts at a step that the chunk has not
  int64_t taken;  // rows of the chunk whose steps have been taken
  int phase = 0;  // where a task is a phase of a step
  bool begun = false;

  static int64_t carve(Forward* self, char* base, const PassSizes& sizes) {
    const int64_t H = sizes.H, P = sizes.P, rows = sizes.rows, flat = sizes.chunk_rows;
    Carver c{base};
    const ProductEntry& product = *sizes.product;
    const void** input = c.take<const void*>(flat);
    const Storage** x = c.take<const Storage*>(rows);
    const Storage** mask = c.take<const Storage*>(rows);
    Storage** save = c.take<Storage*>(rows);
    PerState<ConstRows, Storage> prev;
    PerState<OutRows, Storage> next;
    PerState<Values, Storage> zeros;
    each_state<S>([&](auto k) {
      c.take_to(rows, &prev.at(k));
      c.take_to(rows, &next.at(k));
      c.take_to(k.value == 0 ? P : H, &zeros.at(k));
    });
    T* projected[kPhases];
    projected[0] = c.take<T>(flat * blocks_of(H, L) * Panels<0>::G * L);
    if constexpr (kPhases > 1)
      projected[1] = c.take<T>(kProjects ? 0 : flat * blocks_of(H, L) * Panels<1>::G * L);
    const bool stages = sizes.masked || product.copies;
    char* staged = c.take<char>(stages ? flat * product.factor_bytes(sizes.I) : 0);
    const int64_t widest = kPhases > 1 ? max(P, H) : P;
    char* copies = c.take<char>(product.copies ? rows * product.factor_bytes(widest) : 0);
    Storage* v = c.take<Storage>(kPhases > 1 ? rows * H : 0);
    char* masked = c.take<char>(sizes.recurrent_masks * rows * product.factor_bytes(P));
    if (self) {
      self->input = input;
      self->x.at = x, self->mask.at = mask, self->save.at = save;
      self->prev = prev, self->zeros = zeros;
      each_state<S>([&](auto k) { self->next.at(k).at = next.at(k); });
      for (int p = 0; p < kPhases; ++p) self->own[p].projected = projected[p];
      self->staged = staged, self->copies = copies, self->v = v, self->masked.memory = masked;
    }
    return c.used;
  }

  Forward(const ForwardPass& p, const ThreadWork& s)
      : pass(p),
        work(s),
        product(*p.product),
        steps(p),
        cell{Math(p.maths), p.H},
        H(p.H),
        I(p.I),
        P(p.P),
        rows(s.row_end - s.row_begin) {
    set_own<0>(H);
    if constexpr (kPhases > 1) set_own<1>(P);
    char* base = static_cast<char*>(p.scratch) + s.member * p.scratch_stride;
    PassSizes sizes = sizes_of(p, rows);
    sizes.product = p.product;
    carve(this, base, sizes);
    masked = {{p.recurrent_masks, steps.scan.row}, p.product, masked.memory, s.row_begin, rows, P};
    const int64_t first_of_group = s.unit_member * p.scratch_stride;
    if (has_helpers(s))
      for (Own& o : own) o.projected -= first_of_group / int64_t{sizeof(T)};
    if constexpr (kPhases > 1) v -= first_of_group / int64_t{sizeof(Storage)};
    each_state<S>([&](auto k) { clear_n(zeros.at(k), width(k)); });
  }

  // Parts that share rows own whole panels; the same units in both phases, but for a projection.
  template <int p> void set_own(int64_t units) {
    constexpr int G = Panels<p>::G;
    constexpr int64_t kPart = kProjects ? Panels<p>::U : max(Panels<0>::U, Panels<kLast>::U);
    const int64_t blocks = blocks_of(units, L), parts = blocks_of(blocks, kPart);
    const auto begin_of = [&](int member) {
      return min(recurrence_part(parts, work, member) * kPart, blocks);
    };
    Own& o = own[p];
    o.units = units, o.blocks = blocks;
    o.begin = begin_of(work.unit_member), o.end = begin_of(work.unit_member + 1);
    o.row_width = (has_helpers(work) ? blocks : o.end - o.begin) * G * L;
    o.chains = chains_for(blocks * G);
  }

  // Values of a state of a row.
  template <int k> int64_t width(Index<k>) const { return k == 0 ? P : H; }
  // The phase that computes it.
  template <int k> const Own& owner(Index<k>) const { return own[k == 0 ? kLast : 0]; }
  static int64_t own_begin(const Own& o) { return o.begin * L; }
  static int64_t own_units(const Own& o) { return min(o.end * L, o.units) - o.begin * L; }

  // A task is a phase of a step where parts share rows, else all steps of a chunk. The projection
  // of the chunk belongs to its first task, or is a task of its own where others help with it.
  Need task() {
    if (!begun) begin();
    if (step == last) return Need::kEnd;
    if (step == end) {
      end = chunk_end();
      project();
      if (has_helpers(work)) return Need::kGroup;
    }
    if (work.recurrence_threads > 1)
      take_phase();
    else if (work.unit_member == 0)
      take_steps();
    else
      step = end;
    if (step == last) return Need::kEnd;
    return work.unit_members > 1 ? Need::kGroup : Need::kNothing;
  }

  void begin() {
    begun = true;
    clear_idle_rows();
    finish_empty_rows();
    // The same for all parts, so that they have as many tasks.
    last = steps.scan.B ? min(steps.scan.length[0], pass.end) : 0;
    step = end = pass.begin < last ? pass.begin : last;
    active = steps.shrink(work.row_begin, rows, pass.begin);
    all = steps.shrink(0, steps.scan.B, pass.begin);
    enter(active);
  }

  // After as many steps as there is room for, the same for all parts.
  int64_t chunk_end() {
    int64_t s = step, room = pass.chunk_rows;
    for (; s < last; ++s) {
      all = steps.shrink(0, all, s);
      room -= min(all, pass.max_rows);
      if (room < 0) break;
    }
    return s;
  }

  void take_steps() {
    for (; step < end; ++step) {
      enter_step(step);
      multiply<0>();
      if constexpr (kPhases > 1) multiply<1>();
      leave_step(step);
    }
  }

  void take_phase() {
    if (phase == 0) {
      enter_step(step);
      multiply<0>();
    }
    if constexpr (kPhases > 1) {
      if (phase == 1) multiply<1>();
      phase = 1 - phase;
    }
    if (phase == 0) leave_step(step++);
  }

  void enter_step(int64_t s) {
    active = steps.shrink(work.row_begin, active, s);
    if (s > pass.begin) advance_to(s, active);
  }
  void leave_step(int64_t s) {
    repeat_output(s, active);
    for (int64_t r = active - 1; r >= 0 && steps.scan.length[work.row_begin + r] == s + 1; --r)
      each_state<S>([&](auto k) { finish(k, next.at(k).at[r], work.row_begin + r); });
    taken += active;
  }

  // The part's units of a row of the output.
  Storage* own_output(int64_t position, int64_t t) const {
    return row_at<Storage>(pass.states[0], t, steps.scan.row[position]) + own_begin(own[kLast]);
  }

  // Output is zero where a row does not run. (A recomputed window has no such rows.)
  void clear_idle_rows() {
    const int64_t units = own_units(own[kLast]);
    if (!steps.has_idle_rows(pass.states[0]) || units <= 0) return;
    for (int64_t p = work.row_begin; p < work.row_end; ++p)
      steps.for_idle(p, [&](int64_t t) { clear_n(own_output(p, t), units); });
  }

  // Where a held row repeats its last output.
  void repeat_output(int64_t s, int64_t active) {
    if (!steps.repeats() || !steps.has_idle_rows(pass.states[0])) return;
    for (int64_t r = 0; r < active; ++r)
      steps.for_repeats(work.row_begin + r, s, [&](int64_t t) {
        copy_n(next.h.at[r] + own_begin(own[kLast]), own_units(own[kLast]),
               own_output(work.row_begin + r, t));
      });
  }

  void finish_empty_rows() {
    for (int64_t p = work.row_end - 1; p >= work.row_begin && steps.scan.length[p] == 0; --p)
      each_state<S>([&](auto k) {
        const auto* given = steps.template state<Storage>(pass.initial, k, p);
        finish(k, given ? given : zeros.at(k), p);
      });
  }

  // The part's units of a final state.
  template <class K, class U> void finish(K k, const U* from, int64_t position) const {
    U* to = steps.template state<Storage>(pass.final, k, position);
    if (!to) return;
    const int64_t u = own_begin(owner(k));
    copy_n(from + u, own_units(owner(k)), to + u);
  }

  // Rows of the window's first step.
  void enter(int64_t active) {
    const int64_t s = pass.begin, p = work.row_begin;
    x = {x.at, pass.x, p}, mask = {mask.at, pass.mask, p}, save = {save.at, pass.saved, p};
    x.seek(steps, 0, active, s), mask.seek(steps, 0, active, s), save.seek(steps, 0, active, s);
    each_state<S>([&](auto k) {
      next.at(k) = {next.at(k).at, pass.states[k.value], p};
      next.at(k).seek(steps, 0, active, s);
      for (int64_t r = 0; r < active; ++r)
        prev.at(k)[r] = steps.entering(k.value, p + r, zeros.at(k));
    });
    restart(s, active);
  }

  // From step s - 1 to step s.
  void advance_to(int64_t s, int64_t active) {
    each_state<S>([&](auto k) {
      for (int64_t r = 0; r < active; ++r) prev.at(k)[r] = next.at(k).at[r];
      next.at(k).advance(steps, active, s - 1);
    });
    save.advance(steps, active, s - 1);
    restart(s, active);
  }

  void restart(int64_t s, int64_t active) {
    if (!steps.schedule().may_start_from_zero()) return;
    for (int64_t r = 0; r < active; ++r)
      if (steps.starts_from_zero(work.row_begin + r, s))
        each_state<S>([&](auto k) { prev.at(k)[r] = zeros.at(k); });
  }

  // Projects the inputs of the chunk: what the gates get from x and the biases.
  void project() {
    int64_t flat = 0, n = active;
    taken = 0;
    for (int64_t s = step; s < end; ++s) {
      n = steps.shrink(work.row_begin, n, s);
      for (int64_t r = 0; r < n; ++r)
        input[flat + r] = product.factors(x.at[r], mask.at[r], I, staged, flat + r);
      flat += n;
      x.advance(steps, n, s);
      mask.advance(steps, n, s);
    }
    project<0>(flat);
    if constexpr (kPhases > 1 && !kProjects) project<1>(flat);
  }

  template <int p> void project(int64_t flat) {
    constexpr int G = Panels<p>::G, U = Panels<p>::U, kPanels = Panels<p>::kPanels;
    const Own& o = own[p];
    // The part's own units of every row; or all units of some rows, where one part runs the
    // recurrence.
    const bool by_rows = has_helpers(work);
    const int64_t first_row = by_rows ? part(flat, work.unit_member, work.unit_members) : 0;
    const int64_t last_row = by_rows ? part(flat, work.unit_member + 1, work.unit_members) : flat;
    const int64_t from = by_rows ? 0 : o.begin, to = by_rows ? o.blocks : o.end;
    TileArgs<T> args;
    args.K = I;
    args.panel_step = product.lanes(I) * Panels<p>::kVectors * L;
    for (int64_t block = from; block < to;) {
      const int panels = panels_at<p>(to - block, flat == 1, 1);
      const int64_t width = min(panels / kPanels * U, to - block), n = width * G;
      product.set_panel(pass.w[p].w_ih, pass.w[p].scale_ih, block * G * L, &args);
      args.b_step = n / panels * L;
      args.shared_init = static_cast<const T*>(pass.w[p].bias_x) + block * G * L;
      args.shared = kAllVectors;
      T* out = o.projected + (block - from) * G * L;
      for (int64_t f = first_row; f < last_row;) {
        const int R = next_rows(last_row - f, Panels<p>::kRows);
        for (int r = 0; r < R; ++r, ++f) {
          args.a[r] = input[f];
          args.out[r] = out + f * o.row_width;
        }
        product.run(R, static_cast<int>(n / panels), panels, &args);
      }
      block += width;
    }
  }

  // How many panels of the next blocks are computed at once.
  template <int p> static int panels_at(int64_t blocks, bool one_row, int chains) {
    constexpr int kPanels = Panels<p>::kPanels;
    const int64_t whole = blocks / Panels<p>::U * kPanels;
    const int panels = panels_at_once(one_row, Panels<p>::kVectors, chains, whole);
    return static_cast<int>(max(kPanels, panels));
  }

  // A phase of the step, for the part's own units.
  template <int p> void multiply() {
    constexpr int G = Panels<p>::G, U = Panels<p>::U, kPanels = Panels<p>::kPanels;
    constexpr int kRows = Panels<p>::kRows;
    static_assert(kPanels == 1 || Panels<p>::split_vectors() + 1 < 2, "panels have one mask");
    const Own& o = own[p];
    TileArgs<T> args;
    args.K = p == 0 ? P : H;
    args.chains = o.chains;
    args.panel_step = product.lanes(args.K) * Panels<p>::kVectors * L;
    const T* const gates = o.projected + taken * o.row_width;
    alignas(64) T acc[kRows * kMostVectors * L];
    const bool is_masked = masked.template serves<p>(), by_gate = masked.template by_gate<p>();
    if (is_masked)
      masked.template make<p>(active, pass.bounds[p], [&](int64_t r) { return multiplied<p>(r); });
    else if (product.entry.copies)
      for (int64_t r = 0; r < active; ++r)
        product.entry.factors(multiplied<p>(r), nullptr, args.K, pass.bounds[p],
                              product.copy_at(copies, r, args.K));
    for (int64_t block = o.begin; block < o.end;) {
      const int panels = panels_at<p>(o.end - block, active == 1 && !by_gate, o.chains);
      const int64_t width = min(panels / kPanels * U, o.end - block), n = width * G;
      product.set_panel(pass.w[p].w_hh, pass.w[p].scale_hh, block * G * L, &args);
      args.b_step = n / panels * L;
      args.shared_init = static_cast<const T*>(pass.w[p].bias_r) + block * G * L;
      args.shared = Panels<p>::split_vectors();
      const T* const projection = gates + (block - o.begin) * G * L;
      for (int64_t done = 0; done < active;) {
        const int R = next_rows(active - done, kRows);
        for (int r = 0; r < R; ++r) {
          if (is_masked)
            args.a[r] = masked.at(Panels<p>::gate(0), done + r);
          else if (product.entry.copies)
            args.a[r] = product.copy_at(copies, done + r, args.K);
          else
            args.a[r] = multiplied<p>(done + r);
          args.init[r] = projection + (done + r) * o.row_width;
          args.out[r] = acc + r * n * L;
        }
        if (by_gate)
          masked.template tile_of_gates<p>(args, done, R, static_cast<int>(n / panels), panels);
        else
          product.run(R, static_cast<int>(n / panels), panels, &args);
        for (int r = 0; r < R; ++r, ++done)
          for (int64_t u = 0; u < width; ++u)
            apply_cell<p>(done, (block + u) * L, left_in_place<p>(done, block + u),
                          args.out[r] + u * G * L);
      }
      block += width;
    }
  }

  // The row of h or v that the step multiplies.
  template <int p> FASTRNN_INLINE const Storage* multiplied(int64_t r) const {
    return p == 0 ? prev.h[r] : v + r * H;
  }

  // Where the projection of a block of units is, or what the first phase has left in that place.
  template <int p> FASTRNN_INLINE T* left_in_place(int64_t row, int64_t block) const {
    const Own& o = own[0];
    if constexpr (p == 1 && kProjects) return nullptr;
    return o.projected + (taken + row) * o.row_width + (block - o.begin) * Panels<0>::G * L;
  }

  // The epilogue: L units of one row. x: projection, r: the chains that h (or v) continued.
  template <int p> FASTRNN_INLINE void apply_cell(int64_t row, int64_t u, T* x, const T* r) const {
    typename Epilogues::Row at;
    each_state<S>([&](auto k) {
      at.before.at(k) = prev.at(k)[row] + u;
      at.after.at(k) = next.at(k).at[row] + u;
    });
    at.saved = save.at[row] ? save.at[row] + u : nullptr;
    at.w_diag = static_cast<const T*>(pass.w[0].w_diag) + u * Cell::kUnit;
    at.v = kPhases > 1 ? v + row * H + u : nullptr;
    const int64_t n = own[p].units - u;
    if (n >= L)
      apply_lanes<p>(
          at, x, r, [](const auto* from) { return load(from); },
          [](V values, auto* to) { store(values, to); });
    else
      apply_lanes<p>(
          at, x, r, [n](const auto* from) { return load_part(from, n); },
          [n](V values, auto* to) { store_part(values, to, n); });
  }

  template <int p, class Load, class Store>
  FASTRNN_INLINE void apply_lanes(const typename Epilogues::Row& at, T* x, const T* r, Load from,
                                  Store to) const {
    if constexpr (kPhases == 1)
      cell.whole(at, x, r, from, to);
    else if constexpr (p == 0)
      cell.first(at, x, r, from, to);
    else
      cell.second(at, x, r, from, to);
  }

  static int64_t scratch(const PassSizes* sizes) { return carve(nullptr, nullptr, *sizes); }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
