// Forward over one layer in one direction.
//
// Per chunk of steps the inputs of all steps are projected by one GEMM (bias, then x in order of
// k); then each step continues those chains with h, and its epilogue is the cell. Parts that own
// rows never wait for each other. Of parts that share rows either each owns units, and a task is a
// step with a barrier after it; or the first runs the recurrence, and all project into its buffer,
// each some rows.
// The window that backward recomputes is the same pass over fewer steps.
#pragma once

#include "rows.h"

namespace fastrnn {

namespace FASTRNN_ISA {

// Arrays, weights and h are of type Storage; the cell state, sums and arithmetic are Acc<Storage>.
template <class Cell, class Math, class Storage> struct Forward : InCallerMemory {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using P = Packing<Cell, Storage>;
  static constexpr int L = V::kLanes, G = Cell::kGates, S = Cell::kStates, U = P::U;
  static constexpr int kRows = rows_for(U * G);
  // Of the vectors of a gate panel, those whose chain of r starts from a bias of its own.
  static constexpr unsigned split_vectors() {
    unsigned mask = 0;
    for (int u = 0; u < U; ++u) mask |= Cell::kSplit << (u * G);
    return mask;
  }
  using StepTiles = Tiles<Storage, Storage, LhsLayout::kRows, split_vectors()>;
  using ProjectTiles = Tiles<Storage, Storage, LhsLayout::kRows, ~0u>;

  const ForwardPass& pass;
  const ThreadWork& work;
  const Steps<ForwardPass> steps;
  const Math math;
  const int64_t H, I, blocks, block_begin, block_end, rows, row_width;
  const int chains;
  const Storage** input;  // [flat] row of x for each (step, row) of the chunk
  RowCursor<const Storage> x, mask;
  PerState<ConstRows, Storage> prev;
  PerState<RowCursor, Storage> next;
  RowCursor<Storage> save;
  PerState<Values, Storage> zeros;  // [H]
  T* projected;                     // [flat][part's block][gate][lane]
  Storage* staged;                  // [flat][I], masked input
  // Where the part is: the pass ends at `last`, the chunk at `end`.
  int64_t last, end, step, active;
  int64_t all;    // rows of all parts at a step that the chunk has not
  int64_t taken;  // rows of the chunk whose steps have been taken
  bool begun = false;

  static int64_t carve(Forward* self, char* base, int64_t I, int64_t H, int64_t rows, int64_t flat,
                       bool masked) {
    Carver c{base};
    const Storage** input = c.take<const Storage*>(flat);
    const Storage** x = c.take<const Storage*>(rows);
    const Storage** mask = c.take<const Storage*>(rows);
    Storage** save = c.take<Storage*>(rows);
    PerState<ConstRows, Storage> prev;
    PerState<OutRows, Storage> next;
    PerState<Values, Storage> zeros;
    each_state<S>([&](auto k) {
      c.take_to(rows, &prev.at(k));
      c.take_to(rows, &next.at(k));
      c.take_to(H, &zeros.at(k));
    });
    T* projected = c.take<T>(flat * blocks_of(H, L) * G * L);
    Storage* staged = c.take<Storage>(masked ? flat * I : 0);
    if (self) {
      self->input = input;
      self->x.at = x, self->mask.at = mask, self->save.at = save;
      self->prev = prev, self->zeros = zeros;
      each_state<S>([&](auto k) { self->next.at(k).at = next.at(k); });
      self->projected = projected, self->staged = staged;
    }
    return c.used;
  }

  Forward(const ForwardPass& p, const ThreadWork& s)
      : pass(p),
        work(s),
        steps(p),
        math(p.maths),
        H(p.H),
        I(p.I),
        blocks(blocks_of(p.H, L)),
        block_begin(panel_part(s.unit_member)),
        block_end(panel_part(s.unit_member + 1)),
        rows(s.row_end - s.row_begin),
        row_width((has_helpers(s) ? blocks : block_end - block_begin) * G * L),
        chains(chains_for(blocks * G)) {
    char* base = static_cast<char*>(p.scratch) + s.member * p.scratch_stride;
    carve(this, base, I, H, rows, p.chunk_rows, p.mask.base != nullptr);
    if (has_helpers(s)) projected -= s.unit_member * p.scratch_stride / int64_t{sizeof(T)};
    each_state<S>([&](auto k) { clear_n(zeros.at(k), H); });
  }

  // Parts that share rows own whole panels.
  int64_t panel_part(int member) const {
    const int64_t panels = blocks_of(blocks, U);
    return min(recurrence_part(panels, work, member) * U, blocks);
  }

  // A task is a single step where parts share rows, else all steps of a chunk. The projection of
  // the chunk belongs to its first task, or is a task of its own where others help with it.
  Need task() {
    if (!begun) begin();
    if (step == last) return Need::kEnd;
    if (step == end) {
      end = chunk_end();
      project();
      if (has_helpers(work)) return Need::kGroup;
    }
    const int64_t stop = work.recurrence_threads > 1 ? step + 1 : end;
    if (work.unit_member < work.recurrence_threads) take_steps(stop);
    step = stop;
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

  void take_steps(int64_t stop) {
    for (int64_t s = step; s < stop; ++s) {
      active = steps.shrink(work.row_begin, active, s);
      if (s > pass.begin) advance_to(s, active);
      take_step(s, active, projected + taken * row_width);
      taken += active;
    }
  }

  // The part's units of a row of the output.
  Storage* own_output(int64_t position, int64_t t) const {
    return row_at<Storage>(pass.states[0], t, steps.scan.row[position]) + block_begin * L;
  }
  int64_t own_units() const { return min(block_end * L, H) - block_begin * L; }

  // Output is zero where a row does not run. (A recomputed window has no such rows.)
  void clear_idle_rows() {
    if (!steps.has_idle_rows(pass.states[0]) || own_units() <= 0) return;
    for (int64_t p = work.row_begin; p < work.row_end; ++p)
      steps.for_idle(p, [&](int64_t t) { clear_n(own_output(p, t), own_units()); });
  }

  // Where a held row repeats its last output.
  void repeat_output(int64_t s, int64_t active) {
    if (!steps.repeats() || !steps.has_idle_rows(pass.states[0])) return;
    for (int64_t r = 0; r < active; ++r)
      steps.for_repeats(work.row_begin + r, s, [&](int64_t t) {
        copy_n(next.h.at[r] + block_begin * L, own_units(), own_output(work.row_begin + r, t));
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
    const int64_t u = block_begin * L;
    copy_n(from + u, own_units(), to + u);
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
      copy_n(x.at, n, input + flat);
      if (pass.mask.base) stage(flat, n);
      flat += n;
      x.advance(steps, n, s);
      mask.advance(steps, n, s);
    }
    // The part's own units of every row; or all units of some rows, where one part runs the
    // recurrence.
    const bool by_rows = has_helpers(work);
    const int64_t first_row = by_rows ? part(flat, work.unit_member, work.unit_members) : 0;
    const int64_t last_row = by_rows ? part(flat, work.unit_member + 1, work.unit_members) : flat;
    const int64_t from = by_rows ? 0 : block_begin, to = by_rows ? blocks : block_end;
    TileArgs<Storage, Storage> args;
    args.K = I;
    args.panel_step = I * G * U * L;
    for (int64_t block = from; block < to;) {
      const int panels = panels_at(block, to, flat == 1);
      const int64_t width = min(panels * U, to - block), n = width * G;
      args.b = static_cast<const Storage*>(pass.w.w_ih) + block * G * L * I;
      args.b_step = n / panels * L;
      args.shared_init = static_cast<const T*>(pass.w.bias_x) + block * G * L;
      T* out = projected + (block - from) * G * L;
      for (int64_t f = first_row; f < last_row;) {
        const int R = next_rows(last_row - f, kRows);
        for (int r = 0; r < R; ++r, ++f) {
          args.a[r] = input[f];
          args.out[r] = out + f * row_width;
        }
        ProjectTiles::get(R, static_cast<int>(n / panels), panels)(args);
      }
      block += width;
    }
  }

  // How many panels of blocks [block, end) a tile computes at once.
  static int panels_at(int64_t block, int64_t end, bool one_row) {
    return one_row && block + 2 * U <= end ? 2 : 1;
  }

  void stage(int64_t flat, int64_t active) {
    for (int64_t r = 0; r < active; ++r, ++flat) {
      Storage* out = staged + flat * I;
      for (int64_t i = 0; i < I; ++i)
        out[i] = narrow<Storage>(widen(x.at[r][i]) * widen(mask.at[r][i]));
      input[flat] = out;
    }
  }

  void take_step(int64_t s, int64_t active, const T* gates) {
    TileArgs<Storage, Storage> args;
    args.K = H;
    args.chains = chains;
    args.panel_step = H * G * U * L;
    alignas(64) T acc[kRows * U * G * L];
    for (int64_t block = block_begin; block < block_end;) {
      const int panels = panels_at(block, block_end, active == 1 && chains == 1);
      const int64_t width = min(panels * U, block_end - block), n = width * G;
      args.b = static_cast<const Storage*>(pass.w.w_hh) + block * G * L * H;
      args.b_step = n / panels * L;
      args.shared_init = static_cast<const T*>(pass.w.bias_r) + block * G * L;
      const T* projection = gates + (block - block_begin) * G * L;
      for (int64_t done = 0; done < active;) {
        const int R = next_rows(active - done, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = prev.h[done + r];
          args.init[r] = projection + (done + r) * row_width;
          args.out[r] = acc + r * n * L;
        }
        StepTiles::get(R, static_cast<int>(n / panels), panels, chains)(args);
        for (int r = 0; r < R; ++r, ++done)
          for (int64_t u = 0; u < width; ++u)
            apply_cell(done, (block + u) * L, args.init[r] + u * G * L, args.out[r] + u * G * L);
      }
      block += width;
    }
    repeat_output(s, active);
    for (int64_t r = active - 1; r >= 0 && steps.scan.length[work.row_begin + r] == s + 1; --r)
      each_state<S>([&](auto k) { finish(k, next.at(k).at[r], work.row_begin + r); });
  }

  // The epilogue: L units of one row. x: projection, r: the chains that h continued.
  FASTRNN_INLINE void apply_cell(int64_t row, int64_t u, const T* x, const T* r) const {
    if (H - u >= L)
      apply_lanes(
          row, u, x, r, [](const auto* p) { return load(p); }, [](V v, auto* p) { store(v, p); });
    else
      apply_lanes(
          row, u, x, r, [n = H - u](const auto* p) { return load_part(p, n); },
          [n = H - u](V v, auto* p) { store_part(v, p, n); });
  }

  template <class Load, class Store> FASTRNN_INLINE void apply_lanes(int64_t row, int64_t u,
                                                                     const T* x, const T* r,
                                                                     Load from, Store to) const {
    Gates<V, Cell> xs, rs;
    Pack<V, S> states;
    Pack<V, Cell::kSaved> saved;
    load_gates<Cell>(x, r, &xs, &rs);
    load_diag<Cell>(static_cast<const T*>(pass.w.w_diag), u / L, &xs);
    each_state<S>([&](auto k) { states[k.value] = from(prev.at(k)[row] + u); });
    Cell::forward(math, xs, rs, states, saved);
    each_state<S>([&](auto k) { to(states[k.value], next.at(k).at[row] + u); });
    if (save.at[row])
      for (int k = 0; k < Cell::kSaved; ++k) to(saved[k], save.at[row] + k * H + u);
  }

  static int64_t scratch(int64_t I, int64_t H, int64_t rows, int64_t chunk_rows, int masked) {
    return carve(nullptr, nullptr, I, H, rows, chunk_rows, masked != 0);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
