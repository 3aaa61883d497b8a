// The products of a step of backward, with matrices packed by MatrixPacking: dh = dgates R, and in
// cells of two phases dv.
#pragma once

#include "recurrent_masks.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Where column n of a packed (K, N) matrix starts, and its step per lane of k.
template <class Storage> FASTRNN_INLINE const Lane<Storage>* matrix_at(const void* packed,
                                                                       int64_t n, int64_t K,
                                                                       int64_t N, int64_t* step) {
  constexpr int64_t L = Vec<Acc<Storage>>::kLanes, kPanel = kPanelVectors * L;
  const int64_t panel = n / kPanel * kPanel;
  *step = blocks_of(min(kPanel, N - panel), L) * L;
  return static_cast<const Lane<Storage>*>(packed) + panel * lanes_of<Storage>(K) + (n - panel);
}

template <class Cell, class Storage> struct BackProduct {
  using T = Acc<Storage>;
  using F = Factor<Storage>;
  static constexpr int64_t L = Vec<T>::kLanes, kPanel = kPanelVectors * L;
  using ChainTiles = Tiles<F, Storage, LhsLayout::kRows>;
  using Args = TileArgs<T>;

  const void* matrix;
  Product kind;
  int64_t from, planes, columns;  // `planes` values of a row's gradient, the first at `from`
  int chains;
  MaskRows<Storage> masks;  // of what the product goes back to
  int64_t versions;         // gates that are masked apart, or 1

  template <int phase> static BackProduct of(const BackwardPass& pass) {
    const GradientRow<Cell> gradient{pass.H, pass.P};
    MaskRows<Storage> masks{pass.recurrent_masks, pass.scan->row};
    if (Phase<Cell, phase>::kIsProjection) masks.of = {};
    const int64_t n = phase == 0 ? pass.P : pass.H;
    return {phase == 0 ? pass.w.w_hh : pass.w.w_v,
            phase == 0 ? Product::kFirst : Product::kSecond,
            phase == 0 ? gradient.to_h() : gradient.to_v(),
            phase == 0 ? Phase<Cell, 0>::kGates * pass.H : gradient.of_second(),
            n,
            chains_for(blocks_of(n, L)),
            masks,
            versions_of<Cell, phase>(masks.count())};
  }

  // For the units that one tile computes, from u on: those of u's matrix panel, or of several
  // panels for a single row.
  struct Chain {
    int64_t units;
    int vectors, panels, chains;

    Chain(const BackProduct& of, int64_t u, int64_t end, bool one_row, Args* args)
        : panels(1), chains(of.chains) {
      units = min((u / kPanel + 1) * kPanel, end) - u;
      if (u % kPanel == 0)
        panels = panels_at_once(one_row, kPanelVectors, chains, (end - u) / kPanel);
      if (panels > 1) units = panels * kPanel;
      vectors = static_cast<int>(blocks_of(units, L));
      args->K = of.planes;
      args->chains = chains;
      args->panel_step = kPanel * lanes_of<Storage>(args->K);
      args->b = matrix_at<Storage>(of.matrix, u, of.planes, of.columns, &args->b_step);
    }
    void tile(int R, Args* args) const { ChainTiles::run(R, vectors / panels, panels, args); }
    // The same where there are masks: of each gate that is masked apart a sum, times its mask, in
    // the order of planes. position_of(r): of the tile's r-th row.
    template <class PositionOf> void masked_tile(const BackProduct& of, int64_t u, Args args, int R,
                                                 F* apart, PositionOf position_of) const {
      alignas(64) T sums[kMatrixRows * kMostVectors * L];
      for (int i = 0; i < of.versions; ++i) {
        Args own = args;
        take_version(of, i, R, apart, &own);
        for (int r = 0; r < R && i > 0; ++r) own.out[r] = sums + r * vectors * L;
        tile(R, &own);
        for (int r = 0; r < R; ++r) {
          const int gate = MatrixPacking<Cell, Storage>::gate_of(of.kind, i);
          const Storage* mask = of.masks.at(gate, position_of(r)) + u;
          for (int64_t k = 0; k < units; ++k) {
            const T value = own.out[r][k] * widen(mask[k]);
            args.out[r][k] = i == 0 ? value : args.out[r][k] + value;
          }
        }
      }
    }

   private:
    // The i-th of the versions' parts of the product's k. Where a lane has values of two gates (H
    // is odd) the rows are copies, with zeros for those of the other gate.
    static void take_version(const BackProduct& of, int i, int R, F* apart, Args* args) {
      constexpr int64_t kValues = Lanes<Storage>::kValues;
      const int64_t n = of.planes / of.versions, from = i * n;
      const int64_t begin = from / kValues * kValues, end = lanes_of<Storage>(from + n) * kValues;
      args->b = static_cast<const Lane<Storage>*>(args->b) + begin / kValues * args->b_step;
      args->K = min(end, of.planes) - begin;
      for (int r = 0; r < R; ++r) {
        const F* row = static_cast<const F*>(args->a[r]);
        args->a[r] = row + begin;
        if (args->K == n) continue;
        F* copy = apart + r * apart_size(n);
        fill_n(copy, args->K, factor_of<Storage>(T(0)));
        copy_n(row + from, n, copy + (from - begin));
        args->a[r] = copy;
      }
    }
  };

  // Factors of a row of `apart`, where n of them have a mask of their own.
  static int64_t apart_size(int64_t n) { return n + 2 * (Lanes<Storage>::kValues - 1); }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
