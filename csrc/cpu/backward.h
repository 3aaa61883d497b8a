// Backward over one layer in one direction (BPTT).
//
// Going back in time, the chain dh = dgates R of a step is the GEMM and the cell's backward its
// epilogue. Per chunk of steps the gradients of the gates are then used three ways: dx = dgates W
// (rows of the part), and, when all parts are done, dW_ih += dgates' x, dW_hh += dgates' h
// (each part owns rows of the weights, and packs its planes of all dgates; x and h are packed
// once, by the parts that own the rows). Every element of dW is one chain over the steps in
// backward order and the rows in order of position, continued from chunk to chunk in the caller's
// array. A pass may come in windows of steps, last first; `shared` carries the chain between them.
#pragma once

#include "rows.h"

namespace fastrnn {

namespace FASTRNN_ISA {

// Arrays, weights, h and its gradient are of type Storage; the cell state and its gradient, the
// gradients of the gates, sums and arithmetic are Acc<Storage>.
template <class Cell, class Math, class Storage> struct Backward : InCallerMemory {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using Plane = Planes<Cell>;
  static constexpr int L = V::kLanes, G = Cell::kGates, S = Cell::kStates;
  static constexpr int kPlanes = Plane::kCount, kSplitGates = Plane::kSplitGates;
  static constexpr int kPanel = kMaxVectors * L;  // columns of a matrix panel
  static constexpr int kRows = kMatrixRows;
  static constexpr int kTogether = 8;  // rows, or blocks of rows, that are packed at a time
  static constexpr int kPackedRows = (kTogether * kRows + L - 1) / L * L;  // their planes
  using ChainTiles = Tiles<T, Storage, LhsLayout::kRows, ~0u>;
  using WeightTiles = Tiles<T, T, LhsLayout::kPacked, 0u>;

  const BackwardPass& pass;
  const ThreadWork& work;
  const Steps<BackwardPass> steps;
  const Math math;
  const int64_t H, I, B, width, rows, unit_begin, unit_end;
  const int chains;

  // Shared by all parts.
  T* dgates;    // [chunk + 1][B][planes][H]: a ring of steps, so that the one after the chunk stays
  T* ds[S];     // [B][H] gradient of the states on its way to the step before
  T* packed_b;  // columns of x, then of h: [panel][k][vector][lane]
  int64_t max_k;  // k that packed_b and packed_a have room for
  // The part's own: the rows of a step ...
  RowCursor<const Storage> dy, saved, x, mask;
  RowCursor<Storage> dx;
  template <class U> using ConstRowCursor = RowCursor<const U>;
  PerState<ConstRowCursor, Storage> after;
  PerState<ConstRows, Storage> before;
  int64_t* going;  // [rows] rows whose chain goes on, then those where it starts
  // ... and of all steps of the chunk.
  struct Flat {
    const T* dgates;
    const Storage *x, *mask, *h;
    Storage* dx;
    int64_t k;  // place among all rows of the chunk
  };
  Flat* flat;
  T* packed_a;                           // [kTogether blocks of kRows rows of dW][k][kRows]
  T* zeros;                              // [zeros_size]
  PerState<Values, Storage> zero_state;  // [H]
  // Where the part is: what comes next; the chunk [chunk_begin, end), `step` the last one taken.
  enum { kBegin, kSteps, kInputGradients, kWeights } next = kBegin;
  int64_t last, end, chunk_begin, step;
  int64_t active, all;       // rows at `step`: of the part, of all
  int64_t entering;          // of all at `end`
  int64_t count, all_count;  // rows of the chunk's steps, of the part and of all

  static int64_t packed_b_size(int64_t n, int64_t k) { return blocks_of(n, L) * L * k; }

  // A panel, or whole vectors of a row.
  static int64_t zeros_size(int64_t H) { return max(kPanel, blocks_of(H, L) * L); }

  static int64_t carve_shared(Backward* self, char* base, int64_t I, int64_t H, int64_t B,
                              int64_t chunk) {
    Carver c{base};
    // pack_a() reads whole vectors: room for some past the end.
    T* dgates = c.take<T>((chunk + 1) * B * kPlanes * H + kPackedRows);
    T* ds[S];
    for (int k = 0; k < S; ++k) ds[k] = c.take<T>(B * H);
    T* packed_b = c.take<T>(packed_b_size(I, chunk * B) + packed_b_size(H, chunk * B));
    if (self) {
      self->dgates = dgates, self->packed_b = packed_b;
      for (int k = 0; k < S; ++k) self->ds[k] = ds[k];
    }
    return c.used;
  }

  static int64_t carve(Backward* self, char* base, int64_t H, int64_t B, int64_t rows,
                       int64_t chunk) {
    Carver c{base};
    const Storage** dy = c.take<const Storage*>(rows);
    const Storage** saved = c.take<const Storage*>(rows);
    const Storage** x = c.take<const Storage*>(rows);
    const Storage** mask = c.take<const Storage*>(rows);
    Storage** dx = c.take<Storage*>(rows);
    PerState<ConstRows, Storage> after, before;
    PerState<Values, Storage> zero_state;
    each_state<S>([&](auto k) {
      c.take_to(rows, &after.at(k));
      c.take_to(rows, &before.at(k));
      c.take_to(H, &zero_state.at(k));
    });
    int64_t* going = c.take<int64_t>(rows);
    Flat* flat = c.take<Flat>(rows * chunk);
    T* packed_a = c.take<T>(kTogether * kRows * chunk * B);
    T* zeros = c.take<T>(zeros_size(H));
    if (self) {
      self->dy.at = dy, self->saved.at = saved, self->x.at = x, self->mask.at = mask;
      self->dx.at = dx, self->going = going, self->flat = flat;
      self->packed_a = packed_a, self->zeros = zeros;
      self->before = before, self->zero_state = zero_state;
      each_state<S>([&](auto k) { self->after.at(k).at = after.at(k); });
    }
    return c.used;
  }

  Backward(const BackwardPass& p, const ThreadWork& s)
      : pass(p),
        work(s),
        steps(p),
        math(),
        H(p.H),
        I(p.I),
        B(p.scan->B),
        width(kPlanes * p.H),
        rows(s.row_end - s.row_begin),
        unit_begin(unit_part(s.unit_member)),
        unit_end(unit_part(s.unit_member + 1)),
        chains(chains_for(blocks_of(p.H, L))),
        max_k(p.chunk * p.scan->B) {
    carve_shared(this, static_cast<char*>(p.shared), I, H, B, p.chunk);
    char* own = static_cast<char*>(p.scratch) + s.member * p.scratch_stride;
    carve(this, own, H, B, rows, p.chunk);
    fill_n(zeros, zeros_size(H), T(0));
    each_state<S>([&](auto k) { clear_n(zero_state.at(k), H); });
    const int64_t first = work.row_begin;
    dy = {dy.at, p.dy, first}, saved = {saved.at, p.saved, first};
    x = {x.at, p.x, first}, mask = {mask.at, p.mask, first}, dx = {dx.at, p.dx, first};
    each_state<S>([&](auto k) { after.at(k) = {after.at(k).at, p.states[k.value], first}; });
  }

  int64_t unit_part(int member) const {
    return min(recurrence_part(blocks_of(H, L), work, member) * L, H);
  }

  // Row of the ring for a position at step s.
  T* dgates_row(int64_t s, int64_t position) const {
    return dgates + ((s % (pass.chunk + 1)) * B + position) * width;
  }
  T* ds_row(int k, int64_t position) const { return ds[k] + position * H; }

  // What a task does: a step where units are shared, else all steps of a chunk; then dx and x and h
  // for all; then dW.
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
    last = B ? steps.scan.length[0] : 0;  // of all parts, which meet at each chunk
    const bool is_last = pass.end >= last;
    if (is_last) clear_past_ends();
    active = is_last ? 0 : steps.grow(work.row_begin, work.row_end, 0, pass.end);
    seek(0, active, pass.end);
    all = is_last ? 0 : steps.grow(0, B, 0, pass.end);
    step = end = max(pass.begin, min(pass.end, last));
  }

  void start_chunk() {
    chunk_begin = max(pass.begin, end - pass.chunk);
    entering = all;
    count = all_count = 0;
  }

  void step_back() {
    --step;
    active = retreat_to(step, active);
    all = steps.grow(0, B, all, step);
    list_rows(step, active, count, all_count);
    count += active, all_count += all;
    take_step(step, active);
  }

  Need take_input_gradients() {
    input_gradients(count);
    if (pass.dw_ih) pack_b(count);
    next = kWeights;
    return Need::kTeam;  // what all parts read is written
  }

  Need add_weights() {
    const bool begins = pass.end >= last && end == last;
    if (pass.dw_ih) weight_gradients(chunk_begin, end, entering, all_count, begins);
    end = chunk_begin;
    next = kSteps;
    return end > pass.begin ? Need::kTeam : finish();  // and read
  }

  Need finish() {
    if (last == 0 && pass.dw_ih) weight_gradients(0, 0, 0, 0, true);
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
      const int64_t stride = s > pass.begin ? steps.stride(pass.states[k.value], s - 1) : 0;
      for (int64_t r = 0; r < active; ++r)
        before.at(k)[r] = s > pass.begin
                              ? after.at(k).at[r] - stride
                              : steps.entering(k.value, work.row_begin + r, zero_state.at(k));
    });
    if (steps.scan.reset)
      for (int64_t r = 0; r < active; ++r)
        if (steps.resets(work.row_begin + r, s))
          each_state<S>([&](auto k) { before.at(k)[r] = zero_state.at(k); });
    return active;
  }

  // Notes the rows of step s from place `at` on; k: the place of its first row among all parts'.
  void list_rows(int64_t s, int64_t active, int64_t at, int64_t k) {
    const T* row = dgates_row(s, work.row_begin);
    for (int64_t r = 0; r < active; ++r, row += width)
      flat[at + r] = {row, x.at[r], mask.at[r], before.h[r], dx.at[r], k + work.row_begin + r};
  }

  void take_step(int64_t s, int64_t active) {
    int64_t n = 0, starting = active;
    for (int64_t r = 0; r < active; ++r) {
      const int64_t position = work.row_begin + r;
      const bool ends = steps.scan.length[position] == s + 1;
      if (ends || steps.resets(position, s + 1)) {
        begin_chain(position, ends);
        going[--starting] = r;
      } else {
        going[n++] = r;
      }
    }
    const T* source = dgates_row(s + 1, work.row_begin) + kSplitGates * H;
    T* target = dgates_row(s, work.row_begin);
    TileArgs<T, Storage> args;
    args.shared_init = zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    for (int64_t u = unit_begin; u < unit_end;) {
      const Chain chain(*this, u, unit_end, n == 1, &args);
      for (int64_t done = 0; done < n;) {
        const int R = next_rows(n - done, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = source + going[done + r] * width;
          args.out[r] = acc + r * chain.vectors * L;
        }
        chain.tile(R)(args);
        for (int r = 0; r < R; ++r, ++done)
          apply_cell(going[done], u, chain.units, args.out[r], target);
      }
      for (int64_t done = starting; done < active; ++done)
        apply_cell(going[done], u, chain.units, zeros, target);
      u += chain.units;
    }
  }

  // dh = dgates R for the units from u on that one tile takes: of u's matrix panel, or of two for a
  // single row.
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

  // The gradient that enters at the last step of a row (or of a piece: none).
  void begin_chain(int64_t position, bool row_ends) {
    each_state<S>([&](auto k) {
      const auto* given =
          row_ends ? steps.template state<Storage>(pass.dfinal, k, position) : nullptr;
      if (!given) given = zero_state.at(k);
      widen_n(given + unit_begin, unit_end - unit_begin, ds_row(k.value, position) + unit_begin);
    });
  }

  // The epilogue: `units` units from u on of one row, whose dh through the gates is `chain` ...
  FASTRNN_INLINE void apply_cell(int64_t r, int64_t u, int64_t units, const T* chain,
                                 T* target) const {
    Row row;
    row.saved = saved.at[r] + u;
    row.dy = dy.at[r] + u;
    row.out = target + r * width + u;
    each_state<S>([&](auto k) {
      row.before.at(k) = before.at(k)[r] + u;
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
  };

  // ... L of them.
  template <class Load, class Store> FASTRNN_INLINE void apply_lanes(const Row& row, int64_t i,
                                                                     const T* chain, Load from,
                                                                     Store to) const {
    Pack<V, Cell::kSaved> kept;
    Pack<V, S> then, now, d;
    Pack<V, G> dgate, dr;
    for (int k = 0; k < Cell::kSaved; ++k) kept[k] = from(row.saved + k * H + i);
    each_state<S>([&](auto k) {
      then[k.value] = from(row.before.at(k) + i);
      now[k.value] = from(row.after.at(k) + i);
      d[k.value] = from(row.ds[k.value] + i);
    });
    d[0] = V::load(chain + i) + d[0] + from(row.dy + i);
    Cell::backward(math, kept, then, now, d, dgate, dr);
    for (int k = 0; k < S; ++k) to(d[k], row.ds[k] + i);
    for (int g = 0; g < G; ++g) {
      to(dgate[g], row.out + Plane::of_x(g) * H + i);
      if (Plane::is_split(g)) to(dr[g], row.out + Plane::of_r(g) * H + i);
    }
  }

  // ---- per chunk ---------------------------------------------------------------------------

  int64_t flat_part(int64_t count, int member) const {
    return part(count, member, work.unit_members);
  }

  void input_gradients(int64_t count) {
    if (!pass.dx.base) return;
    TileArgs<T, Storage> args;
    args.K = G * H;
    args.shared_init = zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    const int64_t end = flat_part(count, work.unit_member + 1);
    for (int64_t n0 = 0; n0 < I; n0 += kPanel) {
      const int64_t columns = min(kPanel, I - n0);
      const int N = static_cast<int>(blocks_of(columns, L));
      args.b = matrix_at(pass.w.w_ih, n0, I, &args.b_step);
      for (int64_t f = flat_part(count, work.unit_member); f < end;) {
        const int R = next_rows(end - f, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = flat[f + r].dgates;
          args.out[r] = acc + r * N * L;
        }
        ChainTiles::get(R, N)(args);
        for (int r = 0; r < R; ++r, ++f) put_dx(flat[f], n0, columns, args.out[r]);
      }
    }
  }

  void put_dx(const Flat& row, int64_t n0, int64_t columns, T* values) const {
    Storage* out = row.dx + n0;
    if (row.mask)
      for (int64_t i = 0; i < columns; ++i) values[i] *= widen(row.mask[n0 + i]);
    if (pass.accumulate_dx)
      for (int64_t i = 0; i < columns; ++i) values[i] = widen(out[i]) + values[i];
    narrow_n(values, columns, out);
  }

  // x and h of the part's rows to where all parts read them. A few rows at a time, so that what
  // is written goes on for more than a piece of a row.
  void pack_b(int64_t count) const {
    const int64_t last = flat_part(count, work.unit_member + 1);
    for (int64_t f = flat_part(count, work.unit_member); f < last; f += kTogether) {
      const int64_t end = min(f + kTogether, last);
      pack_b(f, end, I, packed_b, pass.mask.base != nullptr, &Flat::x);
      pack_b(f, end, H, packed_b + packed_b_size(I, max_k), false, &Flat::h);
    }
  }

  void pack_b(int64_t begin, int64_t end, int64_t n, T* to, bool masked,
              const Storage* Flat::* values) const {
    for (int64_t n0 = 0; n0 < n; n0 += kPanel) {
      const int64_t columns = min(kPanel, n - n0), step = blocks_of(columns, L) * L;
      for (int64_t f = begin; f < end; ++f) {
        const Storage* from = flat[f].*values + n0;
        T* out = to + n0 * max_k + flat[f].k * step;
        if (masked)
          for (int64_t i = 0; i < columns; ++i)
            out[i] = widen(from[i]) * widen(flat[f].mask[n0 + i]);
        else
          widen_n(from, columns, out);
        fill_n(out + columns, step - columns, T(0));
      }
    }
  }

  // Planes [m, m + n) of the dgates of steps [begin, end) and all rows, `active` of them at `end`;
  // adds them up for the biases on the way.
  void pack_a(int64_t m, int64_t n, int64_t begin, int64_t end, int64_t active,
              T (&sums)[kPackedRows]) const {
    V total[kPackedRows / L];
    for (int v = 0; v < kPackedRows / L; ++v) total[v] = V::load(sums + v * L);
    T* to = packed_a;
    for (int64_t s = end - 1; s >= begin; --s) {
      active = steps.grow(0, B, active, s);
      const T* from = dgates_row(s, 0) + m;
      for (int64_t p = 0; p < active; ++p, from += width, to += kRows) {
        // Lanes past n sum what is not asked for, and cost nothing.
        for (int v = 0; v < kPackedRows / L; ++v) total[v] = total[v] + V::load(from + v * L);
        int64_t i = 0;
        for (; i + kRows <= n; i += kRows)
          for (int r = 0; r < kRows; ++r) to[i * max_k + r] = from[i + r];
        for (int r = 0; i + r < n; ++r) to[i * max_k + r] = from[i + r];
      }
    }
    for (int v = 0; v < kPackedRows / L; ++v) total[v].store(sums + v * L);
  }

  // begins: the sums start here, from zero, and not from where the chunk after left them.
  void weight_gradients(int64_t begin, int64_t end, int64_t active, int64_t k, bool begins) const {
    const int64_t row_blocks = blocks_of(width, kRows);
    const int64_t last = part(row_blocks, work.member + 1, work.members);
    for (int64_t first = part(row_blocks, work.member, work.members); first < last;
         first += kTogether) {
      const int64_t m0 = first * kRows, m1 = min(min(first + kTogether, last) * kRows, width);
      alignas(64) T sums[kPackedRows] = {};
      if (!begins) with_biases(m0, m1, [&](Storage& bias, int64_t i) { sums[i] = widen(bias); });
      pack_a(m0, m1 - m0, begin, end, active, sums);
      with_biases(m0, m1, [&](Storage& bias, int64_t i) { bias = narrow<Storage>(sums[i]); });
      for (int64_t m = m0; m < m1; m += kRows) {
        const T* a = packed_a + (m - m0) * max_k;
        const int64_t stop = min(m + kRows, m1), split = max(m, kSplitGates * H);
        // Rows of dW_ih are the planes of x, rows of dW_hh those of r.
        weight_rows(a, m, min(stop, G * H), k, begins, packed_b, I, pass.dw_ih);
        weight_rows(a + (split - m), split, stop, k, begins, packed_b + packed_b_size(I, max_k), H,
                    pass.dw_hh);
      }
    }
  }

  // Rows [m, end) of one row block, packed in a, all columns of x (or h).
  void weight_rows(const T* a, int64_t m, int64_t end, int64_t k, bool begins, const T* columns,
                   int64_t N, void* dw) const {
    if (m >= end) return;
    const int R = static_cast<int>(end - m);
    Storage* rows[kRows];
    for (int r = 0; r < R; ++r) rows[r] = static_cast<Storage*>(dw) + weight_row(m + r) * N;
    TileArgs<T, T> args;
    args.K = k;
    args.a[0] = a;
    alignas(64) T acc[kRows * kMaxVectors * L];
    for (int64_t n0 = 0; n0 < N; n0 += kPanel) {
      const int64_t width_n = min(kPanel, N - n0);
      const int n = static_cast<int>(blocks_of(width_n, L));
      const bool in_place = is_same<Storage, T> && width_n == n * L;
      args.b = columns + n0 * max_k;
      args.b_step = n * L;
      for (int r = 0; r < R; ++r) {
        args.out[r] = acc + r * n * L;
        if constexpr (is_same<Storage, T>)
          if (in_place) args.out[r] = rows[r] + n0;
        args.init[r] = begins ? zeros : args.out[r];
        if (!in_place && !begins) {
          widen_n(rows[r] + n0, width_n, args.out[r]);
          fill_n(args.out[r] + width_n, n * L - width_n, T(0));
        }
      }
      WeightTiles::get(R, n)(args);
      if (!in_place)
        for (int r = 0; r < R; ++r) narrow_n(args.out[r], width_n, rows[r] + n0);
    }
  }

  int64_t weight_row(int64_t m) const {
    return Plane::gate_of(static_cast<int>(m / H)) * H + m % H;
  }

  // use(db, i) for the bias gradients that plane m + i of [m, end) goes to, one or both.
  template <class Use> void with_biases(int64_t m, int64_t end, Use use) const {
    if (!pass.db_ih) return;
    for (int64_t i = 0; m + i < end; ++i) {
      const int64_t row = weight_row(m + i);
      if (m + i < G * H) use(static_cast<Storage*>(pass.db_ih)[row], i);
      if (m + i >= kSplitGates * H) use(static_cast<Storage*>(pass.db_hh)[row], i);
    }
  }

  // ---- edges -------------------------------------------------------------------------------

  // Gradients past a row's last step are zero.
  void clear_past_ends() {
    if (!pass.dx.base || pass.accumulate_dx || work.unit_member != 0) return;
    for (int64_t p = work.row_begin; p < work.row_end; ++p)
      for (int64_t t = steps.scan.length[p]; t < pass.T; ++t)
        clear_n(row_at<Storage>(pass.dx, t, steps.scan.row[p]), I);
  }

  void initial_gradients() {
    TileArgs<T, Storage> args;
    args.shared_init = zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    const int64_t active = steps.grow(work.row_begin, work.row_end, 0, 0);
    const T* source = dgates_row(0, work.row_begin) + kSplitGates * H;
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
        put_initial(p, u, chain.units, zeros);
      }
      u += chain.units;
    }
  }

  void put_initial(int64_t position, int64_t u, int64_t units, const T* chain) const {
    // A row that starts from zero does not depend on its initial state.
    const bool cut = steps.scan.length[position] > 0 && steps.resets(position, 0);
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

  static int64_t shared(int64_t I, int64_t H, int64_t rows, int64_t chunk) {
    return carve_shared(nullptr, nullptr, I, H, rows, chunk);
  }
  static int64_t scratch(int64_t H, int64_t B, int64_t rows, int64_t chunk) {
    return carve(nullptr, nullptr, H, B, rows, chunk);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
