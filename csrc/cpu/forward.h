// Forward over one layer in one direction.
//
// Per chunk of steps the inputs of all steps are projected by one GEMM (bias, then x in order of
// k); then each step continues those chains with h, and its epilogue is the cell. Members that own
// rows never wait for each other; members that share rows own units and meet at a barrier each
// step.
#pragma once

#include "rows.h"

namespace fastrnn {

namespace FASTRNN_ISA {

template <class Cell, class Math, class T> struct Forward {
  using V = Vec<T>;
  using P = Packing<Cell, T>;
  static constexpr int L = V::kLanes, G = Cell::kGates, S = Cell::kStates, U = P::U;
  static constexpr int kRows = rows_for(U * G);
  // Of the vectors of a gate panel, those whose chain of r starts from a bias of its own.
  static constexpr unsigned split_vectors() {
    unsigned mask = 0;
    for (int u = 0; u < U; ++u) mask |= Cell::kSplit << (u * G);
    return mask;
  }
  using StepTiles = Tiles<T, Left::kRows, split_vectors()>;
  using ProjectTiles = Tiles<T, Left::kRows, ~0u>;

  const ForwardPass& pass;
  const Share& share;
  const Steps<ForwardPass> steps;
  const Math math;
  const int64_t H, I, blocks, block_begin, block_end, rows;
  int64_t row_width;  // elements of a projected row: the member's blocks
  const T** input;    // [flat] row of x for each (step, row) of the chunk
  int64_t* first;     // [chunk] flat index of a step's first row
  const T** prev[S];
  T** next[S];
  T** save;
  T* zeros;      // [H]
  T* projected;  // [flat][block][gate][lane]
  T* staged;     // [flat][I], masked input

  static int64_t carve(Forward* self, char* base, int64_t I, int64_t H, int64_t rows, int64_t chunk,
                       bool masked) {
    Carver c{base};
    const int64_t flat = rows * chunk;
    const T** input = c.take<const T*>(flat);
    int64_t* first = c.take<int64_t>(chunk);
    T** save = c.take<T*>(rows);
    const T** prev[S];
    T** next[S];
    for (int k = 0; k < S; ++k) prev[k] = c.take<const T*>(rows);
    for (int k = 0; k < S; ++k) next[k] = c.take<T*>(rows);
    T* zeros = c.take<T>(H);
    T* projected = c.take<T>(flat * blocks_of(H, L) * G * L);
    T* staged = c.take<T>(masked ? flat * I : 0);
    if (self) {
      self->input = input, self->first = first, self->save = save;
      for (int k = 0; k < S; ++k) self->prev[k] = prev[k], self->next[k] = next[k];
      self->zeros = zeros, self->projected = projected, self->staged = staged;
    }
    return c.used;
  }

  Forward(const ForwardPass& p, const Share& s)
      : pass(p),
        share(s),
        steps(p),
        math(),
        H(p.H),
        I(p.I),
        blocks(blocks_of(p.H, L)),
        block_begin(panel_part(s.unit_member)),
        block_end(panel_part(s.unit_member + 1)),
        rows(s.row_end - s.row_begin) {
    char* base = static_cast<char*>(p.scratch) + s.member * p.scratch_stride;
    carve(this, base, I, H, rows, p.chunk, p.mask.base != nullptr);
    for (int64_t u = 0; u < H; ++u) zeros[u] = T(0);
    row_width = (block_end - block_begin) * G * L;
  }

  // Members that share rows own whole panels.
  int64_t panel_part(int member) const {
    const int64_t panels = blocks_of(blocks, U);
    return least(part(panels, member, share.unit_members) * U, blocks);
  }

  void run() {
    if (share.unit_member == 0) clear_past_ends();
    finish_empty_rows();
    const int64_t last = rows ? steps.scan.length[share.row_begin] : 0;
    int64_t active = rows;
    for (int64_t s = 0; s < last; s += pass.chunk) {
      const int64_t end = least(s + pass.chunk, last);
      project(s, end, active);
      for (int64_t step = s; step < end; ++step) {
        active = steps.shrink(share.row_begin, active, step);
        take_step(step, active, projected + first[step - s] * row_width);
        if (share.group) wait(share.group);
      }
    }
  }

  // Output past a row's last step is zero.
  void clear_past_ends() {
    const int64_t T_all = pass.T;
    for (int64_t p = share.row_begin; p < share.row_end; ++p)
      for (int64_t t = steps.scan.length[p]; t < T_all; ++t) {
        T* y = row_at<T>(pass.y, t, steps.scan.row[p]);
        for (int64_t u = 0; u < H; ++u) y[u] = T(0);
      }
  }

  void finish_empty_rows() {
    for (int64_t p = share.row_end - 1; p >= share.row_begin && steps.scan.length[p] == 0; --p)
      for (int k = 0; k < S; ++k) {
        const T* given = state_at<T>(pass.initial, k, steps.scan.row[p]);
        copy_units(given ? given : zeros, state_at<T>(pass.final, k, steps.scan.row[p]));
      }
  }

  void copy_units(const T* from, T* to) const {
    for (int64_t u = block_begin * L; u < least(block_end * L, H); ++u) to[u] = from[u];
  }

  void project(int64_t begin, int64_t end, int64_t active) {
    int64_t flat = 0;
    for (int64_t s = begin; s < end; ++s) {
      first[s - begin] = flat;
      active = steps.shrink(share.row_begin, active, s);
      for (int64_t r = 0; r < active; ++r, ++flat) input[flat] = input_row(r, s, flat);
    }
    TileArgs<T> args;
    args.K = I;
    for (int64_t block = block_begin; block < block_end; block += U) {
      const int64_t width = least(U, block_end - block), n = width * G;
      args.b = static_cast<const T*>(pass.w.w_ih) + block * G * L * I;
      args.b_step = n * L;
      args.shared_init = static_cast<const T*>(pass.w.bias_x) + block * G * L;
      T* out = projected + (block - block_begin) * G * L;
      for (int64_t f = 0; f < flat;) {
        const int R = next_rows(flat - f, kRows);
        for (int r = 0; r < R; ++r, ++f) {
          args.a[r] = input[f];
          args.out[r] = out + f * row_width;
        }
        ProjectTiles::get(R, n)(args);
      }
    }
  }

  const T* input_row(int64_t r, int64_t s, int64_t flat) {
    const int64_t position = share.row_begin + r, b = steps.scan.row[position];
    const int64_t t = steps.time(position, s);
    const T* x = row_at<T>(pass.x, t, b);
    if (!pass.mask.base) return x;
    const T* mask = row_at<T>(pass.mask, t, b);
    T* out = staged + flat * I;
    for (int64_t i = 0; i < I; ++i) out[i] = x[i] * mask[i];
    return out;
  }

  void take_step(int64_t s, int64_t active, const T* gates) {
    for (int64_t r = 0; r < active; ++r) {
      const int64_t position = share.row_begin + r, b = steps.scan.row[position];
      const int64_t t = steps.time(position, s);
      for (int k = 0; k < S; ++k) {
        prev[k][r] = steps.template previous<T>(k, position, s, zeros);
        next[k][r] = row_at<T>(k == 0 ? pass.y : pass.states[k], t, b);
      }
      save[r] = pass.saved.base ? row_at<T>(pass.saved, t, b) : nullptr;
    }
    TileArgs<T> args;
    args.K = H;
    alignas(64) T acc[kRows * U * G * L];
    for (int64_t block = block_begin; block < block_end; block += U) {
      const int64_t width = least(U, block_end - block), n = width * G;
      args.b = static_cast<const T*>(pass.w.w_hh) + block * G * L * H;
      args.b_step = n * L;
      args.shared_init = static_cast<const T*>(pass.w.bias_r) + block * G * L;
      const T* x = gates + (block - block_begin) * G * L;
      for (int64_t done = 0; done < active;) {
        const int R = next_rows(active - done, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = prev[0][done + r];
          args.init[r] = x + (done + r) * row_width;
          args.out[r] = acc + r * n * L;
        }
        StepTiles::get(R, n)(args);
        for (int r = 0; r < R; ++r, ++done)
          for (int64_t u = 0; u < width; ++u)
            apply_cell(done, (block + u) * L, args.init[r] + u * G * L, args.out[r] + u * G * L);
      }
    }
    for (int64_t r = active - 1; r >= 0 && steps.scan.length[share.row_begin + r] == s + 1; --r)
      for (int k = 0; k < S; ++k)
        copy_units(next[k][r], state_at<T>(pass.final, k, steps.scan.row[share.row_begin + r]));
  }

  // The epilogue: L units of one row. x: projection, r: the chains that h continued.
  FASTRNN_INLINE void apply_cell(int64_t row, int64_t u, const T* x, const T* r) const {
    if (H - u >= L)
      apply_lanes(
          row, u, x, r, [](const T* p) { return V::load(p); }, [](V v, T* p) { v.store(p); });
    else
      apply_lanes(
          row, u, x, r, [n = H - u](const T* p) { return load_n(p, n); },
          [n = H - u](V v, T* p) { store_n(v, p, n); });
  }

  template <class Load, class Store> FASTRNN_INLINE void apply_lanes(int64_t row, int64_t u,
                                                                     const T* x, const T* r,
                                                                     Load load, Store store) const {
    Pack<V, G> xs, rs;
    Pack<V, S> states;
    Pack<V, Cell::kSaved> saved;
    for (int g = 0; g < G; ++g) {
      rs[g] = V::load(r + g * L);
      xs[g] = Planes<Cell>::is_split(g) ? V::load(x + g * L) : rs[g];
    }
    for (int k = 0; k < S; ++k) states[k] = load(prev[k][row] + u);
    Cell::forward(math, xs, rs, states, saved);
    for (int k = 0; k < S; ++k) store(states[k], next[k][row] + u);
    if (save[row])
      for (int k = 0; k < Cell::kSaved; ++k) store(saved[k], save[row] + k * H + u);
  }

  static void entry(const ForwardPass* p, const Share* s) { Forward(*p, *s).run(); }
  static int64_t scratch(int64_t I, int64_t H, int64_t rows, int64_t chunk, int masked) {
    return carve(nullptr, nullptr, I, H, rows, chunk, masked != 0);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
