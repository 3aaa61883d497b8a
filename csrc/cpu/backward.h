// Backward over one layer in one direction (BPTT).
//
// Going back in time, the chain dh = dgates R of a step is the GEMM and the cell's backward its
// epilogue. Per chunk of steps the gradients of the gates are then used three ways: dx = dgates W
// (rows of the member), and, packed for all members to read, dW_ih += dgates' x, dW_hh += dgates' h
// (each member owns rows of the weights). Every element of dW is one chain over the steps in
// backward order and the rows in order of position, continued from chunk to chunk in the caller's
// array.
#pragma once

#include "rows.h"

namespace fastrnn {

namespace FASTRNN_ISA {

template <class Cell, class Math, class T> struct Backward {
  using V = Vec<T>;
  using Plane = Planes<Cell>;
  static constexpr int L = V::kLanes, G = Cell::kGates, S = Cell::kStates;
  static constexpr int kPlanes = Plane::kCount, kSplitGates = Plane::kSplitGates;
  static constexpr int kPanel = kMaxVectors * L;  // columns of a matrix panel
  static constexpr int kRows = kMatrixRows;
  using ChainTiles = Tiles<T, Left::kRows, ~0u>;
  using WeightTiles = Tiles<T, Left::kPacked, 0u>;

  const BackwardPass& pass;
  const Share& share;
  const Steps<BackwardPass> steps;
  const Math math;
  const int64_t H, I, B, width, rows, unit_begin, unit_end;

  // Shared by the team.
  T* dgates;  // [chunk + 1][B][planes][H]: a ring of steps, so that the one after the chunk stays
  T* ds[S];   // [B][H] gradient of the states on its way to the step before
  T* left;    // [row block of dW][k][kRows]
  T* right;   // columns of x, then of h: [panel][k][vector][lane]
  int64_t most_k;  // k that left and right have room for
  // The member's own.
  const T** flat_dgates;  // [flat] row of dgates for each (step, row) of the chunk
  int64_t* flat_step;
  int64_t* flat_row;
  int64_t* first_k;  // [chunk] k of a step's first row
  int64_t* going;    // [rows] rows whose chain goes on, then those where it starts
  T* zeros;          // [max(kPanel, H)]

  static int64_t left_size(int64_t H, int64_t k) {
    return blocks_of(kPlanes * H, kRows) * kRows * k;
  }
  static int64_t right_size(int64_t n, int64_t k) { return blocks_of(n, L) * L * k; }

  static int64_t carve_shared(Backward* self, char* base, int64_t I, int64_t H, int64_t B,
                              int64_t chunk) {
    Carver c{base};
    T* dgates = c.take<T>((chunk + 1) * B * kPlanes * H);
    T* ds[S];
    for (int k = 0; k < S; ++k) ds[k] = c.take<T>(B * H);
    // bias_rows() reads whole vectors: room for one past the end.
    T* left = c.take<T>(left_size(H, chunk * B) + 2 * L);
    T* right = c.take<T>(right_size(I, chunk * B) + right_size(H, chunk * B));
    if (self) {
      self->dgates = dgates, self->left = left, self->right = right;
      for (int k = 0; k < S; ++k) self->ds[k] = ds[k];
    }
    return c.used;
  }

  static int64_t carve(Backward* self, char* base, int64_t H, int64_t rows, int64_t chunk) {
    Carver c{base};
    const T** flat_dgates = c.take<const T*>(rows * chunk);
    int64_t* flat_step = c.take<int64_t>(rows * chunk);
    int64_t* flat_row = c.take<int64_t>(rows * chunk);
    int64_t* first_k = c.take<int64_t>(chunk);
    int64_t* going = c.take<int64_t>(rows);
    T* zeros = c.take<T>(most(kPanel, H));
    if (self) {
      self->flat_dgates = flat_dgates, self->flat_step = flat_step, self->flat_row = flat_row;
      self->first_k = first_k, self->going = going, self->zeros = zeros;
    }
    return c.used;
  }

  Backward(const BackwardPass& p, const Share& s)
      : pass(p),
        share(s),
        steps(p),
        math(),
        H(p.H),
        I(p.I),
        B(p.scan->B),
        width(kPlanes * p.H),
        rows(s.row_end - s.row_begin),
        unit_begin(unit_part(s.unit_member)),
        unit_end(unit_part(s.unit_member + 1)),
        most_k(p.chunk * p.scan->B) {
    carve_shared(this, static_cast<char*>(p.shared), I, H, B, p.chunk);
    char* own = static_cast<char*>(p.scratch) + s.member * p.scratch_stride;
    carve(this, own, H, rows, p.chunk);
    for (int64_t i = 0; i < most(kPanel, H); ++i) zeros[i] = T(0);
  }

  int64_t unit_part(int member) const {
    return least(part(blocks_of(H, L), member, share.unit_members) * L, H);
  }

  T* dgates_row(int64_t s, int64_t position) const {
    return dgates + ((s % (pass.chunk + 1)) * B + position) * width;
  }
  T* ds_row(int k, int64_t position) const { return ds[k] + position * H; }

  void run() {
    clear_past_ends();
    const int64_t last = B ? steps.scan.length[0] : 0;  // of all members, who meet at each chunk
    for (int64_t end = last; end > 0;) {
      const int64_t begin = most(0, end - pass.chunk);
      int64_t active = 0;
      for (int64_t s = end - 1; s >= begin; --s) {
        active = steps.grow(share.row_begin, share.row_end, active, s);
        take_step(s, active);
        if (share.group) wait(share.group);
      }
      const int64_t flat = list_rows(begin, end);
      input_gradients(flat);
      if (share.team) wait(share.team);  // the packs of the chunk before have been read
      const int64_t k = pack(flat, begin);
      if (share.team) wait(share.team);
      weight_gradients(k);
      end = begin;
    }
    initial_gradients();
  }

  // ---- one step ----------------------------------------------------------------------------

  void take_step(int64_t s, int64_t active) {
    int64_t n = 0, starting = active;
    for (int64_t r = 0; r < active; ++r) {
      const int64_t position = share.row_begin + r;
      const bool ends = steps.scan.length[position] == s + 1;
      if (ends || steps.resets(position, s + 1)) {
        begin_chain(position, ends);
        going[--starting] = r;
      } else {
        going[n++] = r;
      }
    }
    TileArgs<T> args;
    args.K = G * H;
    args.shared_init = zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    for (int64_t u = unit_begin; u < unit_end;) {
      const int64_t units = panel_units(u, unit_end);
      const int N = static_cast<int>(blocks_of(units, L));
      args.b = matrix_at(pass.w.w_hh, u, H, &args.b_step);
      for (int64_t done = 0; done < n;) {
        const int R = next_rows(n - done, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = dgates_row(s + 1, share.row_begin + going[done + r]) + kSplitGates * H;
          args.out[r] = acc + r * N * L;
        }
        ChainTiles::get(R, N)(args);
        for (int r = 0; r < R; ++r, ++done)
          for (int v = 0; v < N; ++v) apply_cell(s, going[done], u + v * L, args.out[r] + v * L);
      }
      for (int64_t done = starting; done < active; ++done)
        for (int v = 0; v < N; ++v) apply_cell(s, going[done], u + v * L, zeros);
      u += units;
    }
  }

  // Units from u to the end of u's matrix panel or of the member's part.
  static int64_t panel_units(int64_t u, int64_t end) {
    return least((u / kPanel + 1) * kPanel, end) - u;
  }

  // Where column n of a packed (G*H, N) matrix starts, and its step per k.
  const T* matrix_at(const void* packed, int64_t n, int64_t N, int64_t* step) const {
    const int64_t panel = n / kPanel * kPanel;
    *step = blocks_of(least(kPanel, N - panel), L) * L;
    return static_cast<const T*>(packed) + panel * G * H + (n - panel);
  }

  // The gradient that enters at the last step of a row (or of a piece: none).
  void begin_chain(int64_t position, bool row_ends) {
    for (int k = 0; k < S; ++k) {
      const T* given = row_ends ? state_at<T>(pass.dfinal, k, steps.scan.row[position]) : nullptr;
      if (!given) given = zeros;
      T* to = ds_row(k, position);
      for (int64_t u = unit_begin; u < unit_end; ++u) to[u] = given[u];
    }
  }

  FASTRNN_INLINE void apply_cell(int64_t s, int64_t r, int64_t u, const T* chain) const {
    if (unit_end - u >= L)
      apply_lanes(
          s, r, u, chain, [](const T* p) { return V::load(p); }, [](V v, T* p) { v.store(p); });
    else
      apply_lanes(
          s, r, u, chain, [n = unit_end - u](const T* p) { return load_n(p, n); },
          [n = unit_end - u](V v, T* p) { store_n(v, p, n); });
  }

  template <class Load, class Store> FASTRNN_INLINE void apply_lanes(int64_t s, int64_t r,
                                                                     int64_t u, const T* chain,
                                                                     Load load, Store store) const {
    const int64_t position = share.row_begin + r, b = steps.scan.row[position];
    const int64_t t = steps.time(position, s);
    Pack<V, Cell::kSaved> saved;
    Pack<V, S> before, after, d;
    Pack<V, G> dx, dr;
    for (int k = 0; k < Cell::kSaved; ++k) saved[k] = load(row_at<T>(pass.saved, t, b) + k * H + u);
    for (int k = 0; k < S; ++k) {
      before[k] = load(steps.template previous<T>(k, position, s, zeros) + u);
      after[k] = load(row_at<T>(k == 0 ? pass.y : pass.states[k], t, b) + u);
      d[k] = load(ds_row(k, position) + u);
    }
    d[0] = V::load(chain) + d[0] + load(row_at<T>(pass.dy, t, b) + u);
    Cell::backward(math, saved, before, after, d, dx, dr);
    for (int k = 0; k < S; ++k) store(d[k], ds_row(k, position) + u);
    T* out = dgates_row(s, position) + u;
    for (int g = 0; g < G; ++g) {
      store(dx[g], out + Plane::of_x(g) * H);
      if (Plane::is_split(g)) store(dr[g], out + Plane::of_r(g) * H);
    }
  }

  // ---- per chunk ---------------------------------------------------------------------------

  // The member's (step, row) pairs of the chunk, and the k of each step among all rows.
  int64_t list_rows(int64_t begin, int64_t end) {
    int64_t flat = 0, k = 0, all = 0, active = 0;
    for (int64_t s = end - 1; s >= begin; --s) {
      first_k[s - begin] = k;
      all = steps.grow(0, B, all, s);
      k += all;
      active = steps.grow(share.row_begin, share.row_end, active, s);
      for (int64_t r = 0; r < active; ++r, ++flat) {
        flat_dgates[flat] = dgates_row(s, share.row_begin + r);
        flat_step[flat] = s;
        flat_row[flat] = share.row_begin + r;
      }
    }
    return flat;
  }

  int64_t flat_part(int64_t flat, int member) const {
    return part(flat, member, share.unit_members);
  }

  void input_gradients(int64_t flat) {
    if (!pass.dx.base) return;
    TileArgs<T> args;
    args.K = G * H;
    args.shared_init = zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    const int64_t end = flat_part(flat, share.unit_member + 1);
    for (int64_t n0 = 0; n0 < I; n0 += kPanel) {
      const int64_t columns = least(kPanel, I - n0);
      const int N = static_cast<int>(blocks_of(columns, L));
      args.b = matrix_at(pass.w.w_ih, n0, I, &args.b_step);
      for (int64_t f = flat_part(flat, share.unit_member); f < end;) {
        const int R = next_rows(end - f, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = flat_dgates[f + r];
          args.out[r] = acc + r * N * L;
        }
        ChainTiles::get(R, N)(args);
        for (int r = 0; r < R; ++r, ++f) put_dx(f, n0, columns, args.out[r]);
      }
    }
  }

  void put_dx(int64_t f, int64_t n0, int64_t columns, T* values) const {
    const int64_t b = steps.scan.row[flat_row[f]], t = steps.time(flat_row[f], flat_step[f]);
    T* out = row_at<T>(pass.dx, t, b) + n0;
    const T* mask = pass.mask.base ? row_at<T>(pass.mask, t, b) + n0 : nullptr;
    if (mask)
      for (int64_t i = 0; i < columns; ++i) values[i] *= mask[i];
    if (pass.accumulate_dx)
      for (int64_t i = 0; i < columns; ++i) out[i] += values[i];
    else
      for (int64_t i = 0; i < columns; ++i) out[i] = values[i];
  }

  // dgates, x and h of the member's rows to where all members read them; returns the number of k.
  int64_t pack(int64_t flat, int64_t begin) {
    const int64_t last = flat_part(flat, share.unit_member + 1);
    for (int64_t f = flat_part(flat, share.unit_member); f < last; ++f) {
      const int64_t s = flat_step[f], position = flat_row[f], b = steps.scan.row[position];
      const int64_t t = steps.time(position, s), k = first_k[s - begin] + position;
      pack_left(flat_dgates[f], k);
      const T* mask = pass.mask.base ? row_at<T>(pass.mask, t, b) : nullptr;
      pack_right(row_at<T>(pass.x, t, b), mask, I, k, right);
      pack_right(steps.template previous<T>(0, position, s, zeros), nullptr, H, k,
                 right + right_size(I, most_k));
    }
    return first_k[0] + steps.grow(0, B, 0, begin);
  }

  void pack_left(const T* from, int64_t k) const {
    T* to = left + k * kRows;
    int64_t m = 0;
    for (; m + kRows <= width; m += kRows, to += most_k * kRows)
      for (int r = 0; r < kRows; ++r) to[r] = from[m + r];
    for (int r = 0; m + r < width; ++r) to[r] = from[m + r];
  }

  void pack_right(const T* from, const T* mask, int64_t n, int64_t k, T* to) const {
    for (int64_t n0 = 0; n0 < n; n0 += kPanel) {
      const int64_t columns = least(kPanel, n - n0), step = blocks_of(columns, L) * L;
      T* out = to + n0 * most_k + k * step;
      if (mask)
        for (int64_t i = 0; i < columns; ++i) out[i] = from[n0 + i] * mask[n0 + i];
      else
        for (int64_t i = 0; i < columns; ++i) out[i] = from[n0 + i];
      for (int64_t i = columns; i < step; ++i) out[i] = T(0);
    }
  }

  void weight_gradients(int64_t k) {
    const int64_t row_blocks = blocks_of(width, kRows);
    for (int64_t block = part(row_blocks, share.member, share.members);
         block < part(row_blocks, share.member + 1, share.members); ++block) {
      const int64_t m = block * kRows, end = least(m + kRows, width);
      // Rows of dW_ih are the planes of x, rows of dW_hh those of r.
      weight_rows(m, least(end, G * H), block, k, right, I, pass.dw_ih, pass.db_ih);
      weight_rows(most(m, kSplitGates * H), end, block, k, right + right_size(I, most_k), H,
                  pass.dw_hh, pass.db_hh);
    }
  }

  // Rows [m, end) of one row block, all columns of x (or h).
  void weight_rows(int64_t m, int64_t end, int64_t block, int64_t k, const T* columns, int64_t N,
                   void* dw, void* db) const {
    if (m >= end) return;
    const int R = static_cast<int>(end - m);
    TileArgs<T> args;
    args.K = k;
    args.a[0] = left + block * kRows * most_k + (m - block * kRows);
    alignas(64) T acc[kRows * kMaxVectors * L];
    for (int64_t n0 = 0; n0 < N; n0 += kPanel) {
      const int64_t width_n = least(kPanel, N - n0);
      const int n = static_cast<int>(blocks_of(width_n, L));
      const bool whole = width_n == n * L;
      args.b = columns + n0 * most_k;
      args.b_step = n * L;
      for (int r = 0; r < R; ++r) {
        T* out = static_cast<T*>(dw) + weight_row(m + r) * N + n0;
        args.out[r] = whole ? out : acc + r * n * L;
        args.init[r] = args.out[r];
        if (!whole)
          for (int64_t i = 0; i < n * L; ++i) args.out[r][i] = i < width_n ? out[i] : T(0);
      }
      WeightTiles::get(R, n)(args);
      if (!whole)
        for (int r = 0; r < R; ++r) {
          T* out = static_cast<T*>(dw) + weight_row(m + r) * N + n0;
          for (int64_t i = 0; i < width_n; ++i) out[i] = args.out[r][i];
        }
    }
    if (db) bias_rows(args.a[0], R, m, k, static_cast<T*>(db));
  }

  int64_t weight_row(int64_t m) const {
    return Plane::gate_of(static_cast<int>(m / H)) * H + m % H;
  }

  // Sums R neighbours over k. Whole vectors are read and added: the lanes past R sum what is not
  // asked for, and cost nothing.
  void bias_rows(const T* a, int R, int64_t m, int64_t k, T* db) const {
    constexpr int kVectors = (kRows + L - 1) / L;
    alignas(64) T sums[kVectors * L] = {};
    for (int r = 0; r < R; ++r) sums[r] = db[weight_row(m + r)];
    V acc[kVectors];
    for (int v = 0; v < kVectors; ++v) acc[v] = V::load(sums + v * L);
    for (int64_t i = 0; i < k; ++i, a += kRows)
      for (int v = 0; v < kVectors; ++v) acc[v] = acc[v] + V::load(a + v * L);
    for (int v = 0; v < kVectors; ++v) acc[v].store(sums + v * L);
    for (int r = 0; r < R; ++r) db[weight_row(m + r)] = sums[r];
  }

  // ---- edges -------------------------------------------------------------------------------

  // Gradients past a row's last step are zero.
  void clear_past_ends() {
    if (!pass.dx.base || pass.accumulate_dx || share.unit_member != 0) return;
    for (int64_t p = share.row_begin; p < share.row_end; ++p)
      for (int64_t t = steps.scan.length[p]; t < pass.T; ++t) {
        T* dx = row_at<T>(pass.dx, t, steps.scan.row[p]);
        for (int64_t i = 0; i < I; ++i) dx[i] = T(0);
      }
  }

  void initial_gradients() {
    TileArgs<T> args;
    args.K = G * H;
    args.shared_init = zeros;
    alignas(64) T acc[kRows * kMaxVectors * L];
    const int64_t active = steps.grow(share.row_begin, share.row_end, 0, 0);
    for (int64_t u = unit_begin; u < unit_end;) {
      const int64_t units = panel_units(u, unit_end);
      const int N = static_cast<int>(blocks_of(units, L));
      args.b = matrix_at(pass.w.w_hh, u, H, &args.b_step);
      for (int64_t r0 = 0; r0 < active;) {
        const int R = next_rows(active - r0, kRows);
        for (int r = 0; r < R; ++r) {
          args.a[r] = dgates_row(0, share.row_begin + r0 + r) + kSplitGates * H;
          args.out[r] = acc + r * N * L;
        }
        ChainTiles::get(R, N)(args);
        for (int r = 0; r < R; ++r, ++r0) put_initial(share.row_begin + r0, u, units, args.out[r]);
      }
      for (int64_t p = share.row_begin + active; p < share.row_end; ++p) {
        begin_chain(p, true);
        put_initial(p, u, units, zeros);
      }
      u += units;
    }
  }

  void put_initial(int64_t position, int64_t u, int64_t units, const T* chain) const {
    const int64_t b = steps.scan.row[position];
    // A row that starts from zero does not depend on its initial state.
    const bool cut = steps.scan.length[position] > 0 && steps.resets(position, 0);
    for (int k = 0; k < S; ++k) {
      T* out = state_at<T>(pass.dinitial, k, b);
      if (!out) continue;
      for (int64_t i = 0; i < units; ++i) {
        const T own = ds_row(k, position)[u + i];
        out[u + i] = cut ? T(0) : k == 0 ? chain[i] + own : own;
      }
    }
  }

  static void entry(const BackwardPass* p, const Share* s) { Backward(*p, *s).run(); }
  static int64_t shared(int64_t I, int64_t H, int64_t rows, int64_t chunk) {
    return carve_shared(nullptr, nullptr, I, H, rows, chunk);
  }
  static int64_t scratch(int64_t H, int64_t rows, int64_t chunk) {
    return carve(nullptr, nullptr, H, rows, chunk);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
