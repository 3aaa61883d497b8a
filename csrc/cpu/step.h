// One step of one layer for a few rows, from parameters that are not packed: for a call that brings
// its weights for a single step, packing would cost more than the product.
//
// Rows of L units become lanes in registers, as in packing, and are multiplied at once: each weight
// is read once, and nothing is written but the sums. The chains are those of the tile: bias, x in
// order of k, h in order of k, cut into the same pieces. So are the bits.
#pragma once

#include "rows.h"
#include "strips.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class Math, class Storage> struct Step {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using P = Packing<Phase<Cell, 0>, Storage>;
  using Diag = UnitPacking<Cell, Storage>;
  using AddStrips = typename Strips<Storage>::Add;
  static constexpr int L = V::kLanes, G = Cell::kGates, S = Cell::kStates;
  // As many chains side by side as a panel is wide.
  static constexpr int kVectors = P::U * G;
  static constexpr int64_t kSquare = L * Lanes<Storage>::kValues;  // columns of a square of lanes
  struct Sums {
    alignas(64) T at[kStepRows][kVectors][L];
  };

  const StepPass& pass;
  const Math math;
  const int64_t H;
  const int rows, chains;
  template <class U> struct RowPointers {
    const U* at[kStepRows];
  };
  RowPointers<Storage> inputs;
  PerState<RowPointers, Storage> prev;

  explicit Step(const StepPass& p)
      : pass(p), math(p.maths), H(p.H), rows(p.rows), chains(chains_for(blocks_of(p.H, L) * G)) {
    for (int r = 0; r < rows; ++r) {
      inputs.at[r] = static_cast<const Storage*>(p.x) + r * p.x_stride;
      each_state<S>([&](auto k) {
        set_row(p.initial[k.value], r * p.initial_stride[k.value], &prev.at(k).at[r]);
      });
    }
  }

  // Members take panels of their own.
  void run(int member, int members) const {
    const int64_t blocks = blocks_of(H, L), panels = blocks_of(blocks, P::U);
    for (int64_t panel = part(panels, member, members); panel < part(panels, member + 1, members);
         ++panel)
      take(panel * P::U, min((panel + 1) * P::U, blocks));
  }

  // The units of blocks [begin, end).
  void take(int64_t begin, int64_t end) const {
    Sums from_x, sums, piece;
    start(begin, end, &from_x, &sums);
    multiply(pass.w_ih, inputs.at, 0, pass.I, begin, end, &from_x);
    const int vectors = static_cast<int>(end - begin) * G;
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v)
        if (!Planes<Cell>::is_split(v % G)) copy_n(from_x.at[r][v], L, sums.at[r][v]);
    constexpr int64_t kValues = Lanes<Storage>::kValues;
    const int64_t each = lanes_of<Storage>(H) / chains * kValues;
    for (int chain = 0; chain < chains; ++chain) {
      Sums& of_piece = chain == 0 ? sums : piece;
      if (chain > 0) clear(vectors, &piece);
      multiply(pass.w_hh, prev.h.at, chain * each, chain + 1 == chains ? H : (chain + 1) * each,
               begin, end, &of_piece);
      if (chain > 0) add(vectors, piece, &sums);
    }
    for (int r = 0; r < rows; ++r)
      for (int64_t block = begin; block < end; ++block)
        apply_cell(r, block * L, from_x.at[r][(block - begin) * G],
                   sums.at[r][(block - begin) * G]);
  }

  // Each chain's bias.
  void start(int64_t begin, int64_t end, Sums* from_x, Sums* from_r) const {
    for (int64_t block = begin; block < end; ++block)
      for (int g = 0; g < G; ++g) {
        const int64_t v = (block - begin) * G + g;
        P::pack_bias_of(pass.b_ih, pass.b_hh, H, block, g, from_x->at[0][v], from_r->at[0][v]);
        for (int r = 1; r < rows; ++r) {
          copy_n(from_x->at[0][v], L, from_x->at[r][v]);
          copy_n(from_r->at[0][v], L, from_r->at[r][v]);
        }
      }
  }

  void clear(int vectors, Sums* sums) const {
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v) V(T(0)).store(sums->at[r][v]);
  }
  void add(int vectors, const Sums& piece, Sums* sums) const {
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v)
        (V::load(sums->at[r][v]) + V::load(piece.at[r][v])).store(sums->at[r][v]);
  }

  // Continues the chains of blocks [begin, end) over k of [from, to).
  void multiply(const StridedMatrix& w, const Storage* const* rows_of, int64_t from, int64_t to,
                int64_t begin, int64_t end, Sums* sums) const {
    const int64_t row = w.row_stride;
    const Storage* a[kStepRows];
    for (int r = 0; r < rows; ++r) a[r] = rows_of[r] + from;
    const auto at = [&](int64_t v) {
      return static_cast<const Storage*>(w.data) + (v % G * H + (begin + v / G) * L) * row + from;
    };
    const int64_t whole = (min(end, H / L) - begin) * G;  // vectors that have L units
    constexpr int64_t kColumns = Strips<Storage>::kColumns;
    const int64_t n = to - from, strips = n / kColumns * kColumns;
    for (int64_t v = 0; v < whole;) {
      const bool pair = rows == 1 && v + 2 <= whole;
      const Storage* const both[] = {at(v), at(v + pair)};
      const AddStrips add = pair ? Strips<Storage>::one_row_of_two() : Strips<Storage>::get(rows);
      add(both, row, a, strips, kVectors * L, sums->at[0][v]);
      v += 1 + pair;
    }
    for (int64_t v = 0; v < (end - begin) * G; ++v)
      for (int64_t k = v < whole ? strips : 0; k < n; k += kSquare)
        add_square(at(v) + k, row, min(L, H - (begin + v / G) * L), min(kSquare, n - k), a, k,
                   sums->at[0][v]);
  }

  // Adds what strips leave at an edge of the units or of k.
  void add_square(const Storage* w, int64_t row, int64_t units, int64_t n, const Storage* const* a,
                  int64_t k, T* sums) const {
    constexpr int64_t kValues = Lanes<Storage>::kValues;
    alignas(64) Lane<Storage> columns[L * L];
    LanePacking<Storage>::pack_square(w, row, units, n, columns, L);
    const auto lane = [&](int64_t i) { return Lanes<Storage>::load(columns + i * L); };
    for (int r = 0; r < rows; ++r, sums += kVectors * L) {
      V sum = V::load(sums);
      const int64_t whole = n / kValues;
      for (int64_t i = 0; i < whole; ++i)
        sum = Strips<Storage>::add_in_lane(sum, a[r] + k + i * kValues, lane(i));
      if (whole * kValues < n)
        sum = Strips<Storage>::add_last_lane(sum, a[r] + k + whole * kValues, lane(whole));
      sum.store(sums);
    }
  }

  // L units of one row. x: the chains before h, r: after it; G vectors each.
  void apply_cell(int row, int64_t u, const T* x, const T* r) const {
    const int64_t n = min(L, H - u);
    Gates<V, Cell> xs, rs;
    T diag[(Cell::kUnit + 1) * L];
    Pack<V, S> states;
    Pack<V, Cell::kSaved> saved;
    load_gates<Phase<Cell, 0>>(x, r, &xs, &rs);
    Diag::pack_block(pass.w_diag, H, u / L, diag);
    load_diag<Cell>(diag, &xs);
    each_state<S>([&](auto k) { states[k.value] = load_some(prev.at(k).at[row] + u, n); });
    Cell::forward(math, xs, rs, states, saved);
    const auto put = [&](V v, void* base, int64_t stride, auto type) {
      if (base) store_some(v, static_cast<decltype(type)*>(base) + row * stride + u, n);
    };
    put(states[0], pass.y, pass.y_stride, Storage());
    put(states[0], pass.final[0], pass.final_stride[0], Storage());
    if constexpr (S > 1) put(states[1], pass.final[1], pass.final_stride[1], T());
  }

  template <class U> static void set_row(const void* base, int64_t offset, const U** row) {
    *row = static_cast<const U*>(base) + offset;
  }

  static void entry(const StepPass* p, int member, int members) { Step(*p).run(member, members); }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
