// The weight gradients of a chunk of steps: dW_ih += dgates' x, dW_hh += dgates' h (or v), dW_hr +=
// dh' v, and those of the biases and of the parameters of a unit.
//
// Each part owns rows of the weights, and packs its planes of the dgates of all rows (packed_a); x,
// h and v are packed once, by the parts that own the rows of the batch (packed_b). Every element of
// dW is one chain of additions over the steps in backward order and, within a step, over the rows
// in order of position. It is continued from chunk to chunk in the caller's array, so the size of a
// chunk changes no bit.
#pragma once

#include "backward_memory.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class Storage> struct WeightGradients {
  using T = Acc<Storage>;
  using V = Vec<T>;
  using Plane = Planes<Cell>;
  using Memory = BackwardMemory<Cell, Storage>;
  using Row = ChunkRow<Storage>;
  static constexpr int L = V::kLanes, G = Cell::kGates, kSplitGates = Plane::kSplitGates;
  static constexpr bool kProjects = Phases<Cell>::kProjects, kTwoPhases = Phases<Cell>::kCount > 1;
  static constexpr int kPanel = Memory::kPanel, kRows = Memory::kRows;
  static constexpr int kTogether = Memory::kTogether, kPackedRows = Memory::kPackedRows;
  using WeightTiles = Tiles<T, T, LhsLayout::kPacked, 0u>;

  const BackwardPass& pass;
  const ThreadWork& work;
  const GateGradients<T> dgates;
  T *const packed_a, *const packed_b;
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
  // at a time, so that writes to a panel are contiguous for longer than a piece of one row.
  void pack_b(const Row* rows, int64_t count) const {
    const int64_t last = part(count, work.unit_member + 1, work.unit_members);
    for (int64_t f = part(count, work.unit_member, work.unit_members); f < last; f += kTogether) {
      const Row *begin = rows + f, *end = rows + min(f + kTogether, last);
      const auto of_x = [](const Row& r) { return r.mask; };
      pack_b(begin, end, I, packed_b, [](const Row& r) { return r.x; }, of_x);
      pack_versions<0>(begin, end, P, packed_b_of_h(), [](const Row& r) { return r.h; });
      if constexpr (kTwoPhases)
        pack_versions<1>(begin, end, H, packed_b_of_v(),
                         [at = gradient.v()](const Row& r) { return r.dgates + at; });
    }
  }

  // What enters the product of a phase.
  template <int phase, class Values>
  void pack_versions(const Row* begin, const Row* end, int64_t n, T* to, Values values) const {
    using Matrices = MatrixPacking<Cell, Storage>;
    constexpr Product kProduct = phase == 0 ? Product::kFirst : Product::kSecond;
    const bool masked = !Phase<Cell, phase>::kIsProjection;
    for (int i = 0; i < versions<phase>(); ++i, to += Memory::packed_b_size(n, max_k))
      pack_b(begin, end, n, to, values, [&](const Row& r) {
        return masked ? masks.at(Matrices::gate_of(kProduct, i), r.position) : nullptr;
      });
  }

  // mask: gives a row's, or null.
  template <class Values, class Mask> void pack_b(const Row* begin, const Row* end, int64_t n,
                                                  T* to, Values values, Mask mask_of) const {
    for (int64_t n0 = 0; n0 < n; n0 += kPanel) {
      const int64_t columns = min(kPanel, n - n0), step = blocks_of(columns, L) * L;
      for (const Row* row = begin; row < end; ++row) {
        const auto* from = values(*row) + n0;
        const Storage* mask = mask_of(*row);
        T* out = to + n0 * max_k + row->k * step;
        if (mask)
          for (int64_t i = 0; i < columns; ++i) out[i] = widen(from[i]) * widen(mask[n0 + i]);
        else
          widen_n(from, columns, out);
        fill_n(out + columns, step - columns, T(0));
      }
    }
  }

  // Packs planes [m, m + n) of the dgates of the chunk's k rows, the `apart` last of them in a
  // carry, and adds them up for the biases on the way.
  void pack_a(int64_t m, int64_t n, int64_t k, const T* carry, int64_t apart,
              T (&sums)[kPackedRows]) const {
    V total[kPackedRows / L];
    for (int v = 0; v < kPackedRows / L; ++v) total[v] = V::load(sums + v * L);
    T* to = packed_a;
    const auto pack = [&](const T* from, int64_t count) {
      for (int64_t p = 0; p < count; ++p, from += width, to += kRows) {
        // Lanes past n hold sums that nobody reads, and cost nothing.
        for (int v = 0; v < kPackedRows / L; ++v) total[v] = total[v] + V::load(from + v * L);
        int64_t i = 0;
        for (; i + kRows <= n; i += kRows)
          for (int r = 0; r < kRows; ++r) to[i * max_k + r] = from[i + r];
        for (int r = 0; i + r < n; ++r) to[i * max_k + r] = from[i + r];
      }
    };
    pack(dgates.chunk + m, k - apart);
    pack(carry + m, apart);
    for (int v = 0; v < kPackedRows / L; ++v) total[v].store(sums + v * L);
  }

  // Adds the chunk's k rows to the gradients, the `apart` last of them in a carry. begins: the sums
  // start here, from zero, and not from where the chunk after left them.
  void add(int64_t k, const T* carry, int64_t apart, bool begins) const {
    const int64_t row_blocks = blocks_of(planes, kRows);
    const int64_t last = part(row_blocks, work.member + 1, work.members);
    for (int64_t first = part(row_blocks, work.member, work.members); first < last;
         first += kTogether) {
      const int64_t m0 = first * kRows, m1 = min(min(first + kTogether, last) * kRows, planes);
      alignas(64) T sums[kPackedRows] = {};
      if (!begins) with_sums(m0, m1, [&](Storage& sum, int64_t i) { sums[i] = widen(sum); });
      pack_a(m0, m1 - m0, k, carry, apart, sums);
      with_sums(m0, m1, [&](Storage& sum, int64_t i) { sum = narrow<Storage>(sums[i]); });
      for (int64_t m = m0; m < m1; m += kRows) {
        const T* a = packed_a + (m - m0) * max_k;
        const int64_t stop = min(m + kRows, m1);
        each_product([&](const OfProduct& of) {
          const int64_t from = max(m, of.begin);
          weight_rows(a + (from - m), from, min(stop, of.end), k, begins, of);
        });
      }
    }
  }

  // Planes whose gradients are multiplied with the same columns, N of them, into the same array.
  struct OfProduct {
    int64_t begin, end;
    const T* columns;
    int64_t N;
    void* dw;
  };
  // Rows of dW_ih are the planes of x, rows of dW_hh those of r; of a second product, with v.
  template <class Use> void each_product(Use use) const {
    use(OfProduct{0, G * H, packed_b, I, pass.dw_ih});
    const int64_t end = Plane::kCount * H;
    each_version({gradient.to_h(), end, packed_b_of_h(), P, pass.dw_hh}, versions<0>(), use);
    if constexpr (kTwoPhases)
      each_version({gradient.to_v(), gradient.to_v() + gradient.of_second(), packed_b_of_v(), H,
                    kProjects ? pass.dw_hr : pass.dw_hh},
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
  void weight_rows(const T* a, int64_t m, int64_t end, int64_t k, bool begins,
                   const OfProduct& of) const {
    if (m >= end) return;
    const int64_t N = of.N;
    const int R = static_cast<int>(end - m);
    Storage* rows[kRows];
    for (int r = 0; r < R; ++r) rows[r] = static_cast<Storage*>(of.dw) + weight_row(m + r) * N;
    TileArgs<T, T> args;
    args.K = k;
    args.a[0] = a;
    alignas(64) T acc[kRows * kMostVectors * L];
    args.panel_step = kPanel * max_k;
    for (int64_t n0 = 0, width_n; n0 < N; n0 += width_n) {
      const int panels = panels_at_once(false, kPanelVectors, 1, (N - n0) / kPanel);
      width_n = min(panels * kPanel, N - n0);
      const int n = static_cast<int>(blocks_of(width_n, L));
      const bool in_place = is_same<Storage, T> && width_n == n * L;
      args.b = of.columns + n0 * max_k;
      args.b_step = n / panels * L;
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
      WeightTiles::run(R, n / panels, panels, &args);
      if (!in_place)
        for (int r = 0; r < R; ++r) narrow_n(args.out[r], width_n, rows[r] + n0);
    }
  }

  int64_t weight_row(int64_t m) const {
    if (kProjects && m >= gradient.to_v()) return m - gradient.to_v();
    return Plane::gate_of(static_cast<int>(m / H)) * H + m % H;
  }

  // Calls use(sum, i) for each gradient that is the sum of plane m + i of [m, end) alone: those of
  // a bias, one or both, or of a parameter of a unit.
  template <class Use> void with_sums(int64_t m, int64_t end, Use use) const {
    const int64_t gates = Plane::kCount * H, biases = pass.db_ih ? min(end, gates) : m;
    for (int64_t i = 0; m + i < biases; ++i) {
      const int64_t row = weight_row(m + i);
      if (m + i < G * H) use(static_cast<Storage*>(pass.db_ih)[row], i);
      if (m + i >= kSplitGates * H) use(static_cast<Storage*>(pass.db_hh)[row], i);
    }
    if (!Cell::kUnit || !pass.dw_diag) return;
    const int64_t of_units = gradient.of_units();
    for (int64_t i = max(0, of_units - m); m + i < end; ++i)
      use(static_cast<Storage*>(pass.dw_diag)[m + i - of_units], i);
  }

 private:
  template <int phase> int64_t versions() const { return versions_of<Cell, phase>(masks.count()); }
  T* packed_b_of_h() const { return packed_b + Memory::packed_b_size(I, max_k); }
  T* packed_b_of_v() const {
    return packed_b_of_h() + versions<0>() * Memory::packed_b_size(P, max_k);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
