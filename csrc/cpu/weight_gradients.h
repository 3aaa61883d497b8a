// The weight gradients of a chunk of steps: dW_ih += dgates' x, dW_hh += dgates' h (or v), dW_hr +=
// dh' v, and those of the biases and of the parameters of a unit.
//
// Each part owns rows of the weights, and packs its planes of the dgates of all rows (packed_a); x,
// h and v are packed once, by the parts that own the rows of the batch (packed_b). Every element of
// dW is one chain of additions over the steps in backward order and, within a step, over the rows
// in order of position. It is continued from chunk to chunk in the caller's array, so the size of a
// chunk changes no bit; where that array is of another type than the sums, in memory of the pass,
// of which it is rounded once at the end.
//
// Of a lane of two k the first is in the high half, which is multiplied first, and the second one
// in the low half: so a chunk may end within a lane, where 0 times -0 leaves the sum as it is.
#pragma once

#include "backward_memory.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class Storage> struct WeightGradients {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using F = Factor<Storage>;
  using Plane = Planes<Cell>;
  using Memory = BackwardMemory<Cell, Storage>;
  using Row = ChunkRow<Storage>;
  static constexpr int L = V::kLanes, G = Cell::kGates, kSplitGates = Plane::kSplitGates;
  static constexpr bool kProjects = Phases<Cell>::kProjects, kTwoPhases = Phases<Cell>::kCount > 1;
  static constexpr int kPanel = Memory::kPanel, kRows = Memory::kRows;
  static constexpr int kTogether = Memory::kTogether, kPackedRows = Memory::kPackedRows;
  static constexpr int kValues = Lanes<F>::kValues;
  using WeightTiles = Tiles<F, F, LhsLayout::kPacked>;
  using Sums = ParameterSums<Cell, T>;

  const BackwardPass& pass;
  const ThreadWork& work;
  const GateGradients<F> dgates;
  Lane<F>*const packed_a, *const packed_b;
  const Sums sums;
  const T* const zeros;
  const int64_t H, I, P;
  const GradientRow<Cell> gradient;
  const int64_t width, planes;
  const int64_t max_k;  // that packed_a and packed_b have room for
  const MaskRows<Storage> masks;

  WeightGradients(const BackwardPass& p, const ThreadWork& w, const Memory& memory)
      : pass(p),
        work(w),
        dgates(memory.dgates),
        packed_a(memory.packed_a),
        packed_b(memory.packed_b),
        sums(is_same<Storage, T> ? Sums::in_arrays(p) : Sums::in_memory(p, memory.sums)),
        zeros(memory.zeros),
        H(p.H),
        I(p.I),
        P(p.P),
        gradient{p.H, p.P},
        width(gradient.width()),
        planes(gradient.planes()),
        max_k(p.chunk_rows + p.scan->B),
        masks{p.recurrent_masks, p.scan->row} {}

  // Packs x, h and v of the part's rows for all parts, as they entered their products. A few rows
  // at a time, so that writes to a panel are contiguous for longer than a piece of one row. all:
  // the rows of all parts.
  void pack_b(const Row* rows, int64_t count, int64_t all) const {
    const int64_t last = part(count, work.unit_member + 1, work.unit_members);
    for (int64_t f = part(count, work.unit_member, work.unit_members); f < last; f += kTogether) {
      const Row *begin = rows + f, *end = rows + min(f + kTogether, last);
      const auto of_x = [](const Row& r) { return r.mask; };
      pack_b(begin, end, all, I, packed_b, [](const Row& r) { return r.x; }, of_x);
      pack_versions<0>(begin, end, all, P, packed_b_of_h(), [](const Row& r) { return r.h; });
      if constexpr (kTwoPhases)
        pack_versions<1>(begin, end, all, H, packed_b_of_v(),
                         [at = gradient.v()](const Row& r) { return r.dgates + at; });
    }
  }

  // What enters the product of a phase.
  template <int phase, class Values> void pack_versions(const Row* begin, const Row* end,
                                                        int64_t all, int64_t n, Lane<F>* to,
                                                        Values values) const {
    using Matrices = MatrixPacking<Cell, Storage>;
    constexpr Product kProduct = phase == 0 ? Product::kFirst : Product::kSecond;
    const bool masked = !Phase<Cell, phase>::kIsProjection;
    for (int i = 0; i < versions<phase>(); ++i, to += Memory::packed_b_size(n, max_k))
      pack_b(begin, end, all, n, to, values, [&](const Row& r) {
        return masked ? masks.at(Matrices::gate_of(kProduct, i), r.position) : nullptr;
      });
  }

  // The place in a lane of the values of a row.
  static constexpr int in_lane(int64_t k) { return static_cast<int>(kValues - 1 - k % kValues); }

  // mask: gives a row's, or null.
  template <class Values, class Mask> void pack_b(const Row* begin, const Row* end, int64_t all,
                                                  int64_t n, Lane<F>* to, Values values,
                                                  Mask mask_of) const {
    const int64_t lanes = lanes_of<F>(max_k);
    for (int64_t n0 = 0; n0 < n; n0 += kPanel) {
      const int64_t columns = min(kPanel, n - n0), step = blocks_of(columns, L) * L;
      for (const Row* row = begin; row < end; ++row) {
        const auto* from = values(*row) + n0;
        const Storage* mask = mask_of(*row);
        Lane<F>* out = to + n0 * lanes + row->k / kValues * step;
        const int place = in_lane(row->k);
        if (mask)
          for (int64_t i = 0; i < columns; ++i)
            Lanes<F>::at(out + i, place) = factor_of<Storage>(widen(from[i]) * widen(mask[n0 + i]));
        else
          put_columns(from, columns, out, place);
        for (int64_t i = columns; i < step; ++i) Lanes<F>::at(out + i, place) = zero();
        if (kValues > 1 && row->k + 1 == all && place > 0)
          for (int64_t i = 0; i < step; ++i) Lanes<F>::at(out + i, 0) = zero();
      }
    }
  }
  static F zero() { return factor_of<Storage>(T(0)); }
  template <class U>
  static FASTRNN_INLINE void put_columns(const U* from, int64_t n, Lane<F>* out, int place) {
    if constexpr (kValues == 1 && is_same<U, Storage>)
      to_factors(from, n, out);
    else
      for (int64_t i = 0; i < n; ++i) Lanes<F>::at(out + i, place) = from[i];
  }

  // Packs planes [m, m + n) of the dgates of the chunk's k rows, the `apart` last of them in a
  // carry, and adds them up for the biases on the way.
  void pack_a(int64_t m, int64_t n, int64_t k, const F* carry, int64_t apart,
              T (&sums)[kPackedRows]) const {
    V total[kPackedRows / L];
    for (int v = 0; v < kPackedRows / L; ++v) total[v] = V::load(sums + v * L);
    const int64_t lanes = lanes_of<F>(max_k);
    const auto pack = [&](const F* from, int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p, from += width) {
        // Lanes past n hold sums that nobody reads, and cost nothing.
        for (int v = 0; v < kPackedRows / L; ++v) total[v] = total[v] + load(from + v * L);
        Lane<F>* to = packed_a + p / kValues * kRows;
        const int place = in_lane(p);
        int64_t i = 0;
        for (; i + kRows <= n; i += kRows)
          for (int r = 0; r < kRows; ++r) Lanes<F>::at(to + i * lanes + r, place) = from[i + r];
        for (int r = 0; i + r < n; ++r) Lanes<F>::at(to + i * lanes + r, place) = from[i + r];
        if (kValues > 1 && p + 1 == k && place > 0)
          for (i = 0; i < n; ++i)
            Lanes<F>::at(to + i / kRows * kRows * lanes + i % kRows, 0) = factor_of<Storage>(-T(0));
      }
    };
    pack(dgates.chunk + m, 0, k - apart);
    pack(carry + m, k - apart, k);
    for (int v = 0; v < kPackedRows / L; ++v) total[v].store(sums + v * L);
  }

  // Adds the chunk's k rows to the gradients, the `apart` last of them in a carry. begins: the sums
  // start here, from zero, and not from where the chunk after left them; ends: these are all.
  void add(int64_t k, const F* carry, int64_t apart, bool begins, bool ends) const {
    const int64_t row_blocks = blocks_of(planes, kRows), lanes = lanes_of<F>(max_k);
    const int64_t last = part(row_blocks, work.member + 1, work.members);
    for (int64_t first = part(row_blocks, work.member, work.members); first < last;
         first += kTogether) {
      const int64_t m0 = first * kRows, m1 = min(min(first + kTogether, last) * kRows, planes);
      alignas(64) T totals[kPackedRows] = {};
      if (!begins) with_sums(m0, m1, [&](T* sum, void*, int64_t, int64_t i) { totals[i] = *sum; });
      pack_a(m0, m1 - m0, k, carry, apart, totals);
      with_sums(m0, m1, [&](T* sum, void* array, int64_t at, int64_t i) {
        *sum = totals[i];
        if (ends) put_rounded(sum, 1, array, at);
      });
      for (int64_t m = m0; m < m1; m += kRows) {
        const Lane<F>* a = packed_a + (m - m0) * lanes;
        const int64_t stop = min(m + kRows, m1);
        each_product([&](const OfProduct& of) {
          const int64_t from = max(m, of.begin);
          weight_rows(a + (from - m), from, min(stop, of.end), k, begins, ends, of);
        });
      }
    }
  }

  // n sums that are all there go to the caller's array, where they are not there yet.
  static FASTRNN_INLINE void put_rounded(const T* sums, int64_t n, void* array, int64_t at) {
    if constexpr (!is_same<Storage, T>) narrow_n(sums, n, static_cast<Storage*>(array) + at);
  }

  // Planes whose gradients are multiplied with the same columns, N of them, into the same array.
  struct OfProduct {
    int64_t begin, end;
    const Lane<F>* columns;
    int64_t N;
    T* dw;
    void* array;  // the caller's, of dw
  };
  // Rows of dW_ih are the planes of x, rows of dW_hh those of r; of a second product, with v.
  template <class Use> void each_product(Use use) const {
    use(OfProduct{0, G * H, packed_b, I, sums.dw_ih, pass.dw_ih});
    const int64_t end = Plane::kCount * H;
    each_version({gradient.to_h(), end, packed_b_of_h(), P, sums.dw_hh, pass.dw_hh}, versions<0>(),
                 use);
    if constexpr (kTwoPhases)
      each_version({gradient.to_v(), gradient.to_v() + gradient.of_second(), packed_b_of_v(), H,
                    kProjects ? sums.dw_hr : sums.dw_hh, kProjects ? pass.dw_hr : pass.dw_hh},
                   versions<1>(), use);
  }
  // Where the gates of a product have columns of their own, it is one for each gate.
  template <class Use> void each_version(OfProduct of, int64_t count, Use use) const {
    const int64_t planes = (of.end - of.begin) / count;
    for (int64_t i = 0; i < count; ++i, of.columns += Memory::packed_b_size(of.N, max_k)) {
      of.end = of.begin + planes;
      use(of);
      of.begin = of.end;
    }
  }

  // Rows [m, end) of one row block, packed in a, all columns of x (or h, or v).
  void weight_rows(const Lane<F>* a, int64_t m, int64_t end, int64_t k, bool begins, bool ends,
                   const OfProduct& of) const {
    if (m >= end) return;
    const int64_t N = of.N, lanes = lanes_of<F>(max_k);
    const int R = static_cast<int>(end - m);
    T* rows[kRows];
    for (int r = 0; r < R; ++r) rows[r] = of.dw + weight_row(m + r) * N;
    TileArgs<T> args;
    args.K = lanes_of<F>(k) * kValues;
    args.shared = 0;
    args.a[0] = a;
    alignas(64) T acc[kRows * kMostVectors * L];
    args.panel_step = kPanel * lanes;
    for (int64_t n0 = 0, width_n; n0 < N; n0 += width_n) {
      const int panels = panels_at_once(false, kPanelVectors, 1, (N - n0) / kPanel);
      width_n = min(panels * kPanel, N - n0);
      const int n = static_cast<int>(blocks_of(width_n, L));
      const bool in_place = width_n == n * L;
      args.b = of.columns + n0 * lanes;
      args.b_step = n / panels * L;
      for (int r = 0; r < R; ++r) {
        args.out[r] = in_place ? rows[r] + n0 : acc + r * n * L;
        args.init[r] = begins ? zeros : args.out[r];
        if (!in_place && !begins) {
          copy_n(rows[r] + n0, width_n, args.out[r]);
          fill_n(args.out[r] + width_n, n * L - width_n, T(0));
        }
      }
      WeightTiles::run(R, n / panels, panels, &args);
      if (!in_place)
        for (int r = 0; r < R; ++r) copy_n(args.out[r], width_n, rows[r] + n0);
    }
    for (int r = 0; r < R && ends; ++r) put_rounded(rows[r], N, of.array, weight_row(m + r) * N);
  }

  int64_t weight_row(int64_t m) const {
    if (kProjects && m >= gradient.to_v()) return m - gradient.to_v();
    return Plane::gate_of(static_cast<int>(m / H)) * H + m % H;
  }

  // Calls use(sum, array, at, i) for each gradient that is the sum of plane m + i of [m, end)
  // alone, those of a bias, one or both, or of a parameter of a unit; it is element `at` of an
  // array of the caller's.
  template <class Use> void with_sums(int64_t m, int64_t end, Use use) const {
    const int64_t gates = Plane::kCount * H, biases = pass.db_ih ? min(end, gates) : m;
    for (int64_t i = 0; m + i < biases; ++i) {
      const int64_t row = weight_row(m + i);
      if (m + i < G * H) use(sums.db_ih + row, pass.db_ih, row, i);
      if (m + i >= kSplitGates * H) use(sums.db_hh + row, pass.db_hh, row, i);
    }
    if (!Cell::kUnit || !pass.dw_diag) return;
    const int64_t of_units = gradient.of_units();
    for (int64_t i = max(0, of_units - m); m + i < end; ++i) {
      const int64_t at = m + i - of_units;
      use(sums.dw_diag + at, pass.dw_diag, at, i);
    }
  }

 private:
  template <int phase> int64_t versions() const { return versions_of<Cell, phase>(masks.count()); }
  Lane<F>* packed_b_of_h() const { return packed_b + Memory::packed_b_size(I, max_k); }
  Lane<F>* packed_b_of_v() const {
    return packed_b_of_h() + versions<0>() * Memory::packed_b_size(P, max_k);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
