// The products of a step of backward, with matrices packed by MatrixPacking: dh = dgates R, and in
// cells of two phases dv.
#pragma once

#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Where column n of a packed (K, N) matrix starts, and its step per k.
template <class Storage> FASTRNN_INLINE const Storage* matrix_at(const void* packed, int64_t n,
                                                                 int64_t K, int64_t N,
                                                                 int64_t* step) {
  constexpr int64_t L = Vec<Acc<Storage>>::kLanes, kPanel = kMaxVectors * L;
  const int64_t panel = n / kPanel * kPanel;
  *step = blocks_of(min(kPanel, N - panel), L) * L;
  return static_cast<const Storage*>(packed) + panel * K + (n - panel);
}

template <class Storage> struct BackProduct {
  using T = Acc<Storage>;
  static constexpr int64_t L = Vec<T>::kLanes, kPanel = kMaxVectors * L;
  using ChainTiles = Tiles<T, Storage, LhsLayout::kRows, ~0u>;

  const void* matrix;
  int64_t from, planes, columns;  // `planes` values of a row's gradient, the first at `from`
  int chains;

  BackProduct(const void* m, int64_t first, int64_t count, int64_t n)
      : matrix(m), from(first), planes(count), columns(n), chains(chains_for(blocks_of(n, L))) {}

  // For the units that one tile computes, from u on: those of u's matrix panel, or of two panels
  // for a single row.
  struct Chain {
    int64_t units;
    int vectors, panels, chains;

    Chain(const BackProduct& of, int64_t u, int64_t end, bool one_row, TileArgs<T, Storage>* args)
        : panels(1), chains(of.chains) {
      units = min((u / kPanel + 1) * kPanel, end) - u;
      // Sums that are not cut have eight vectors or more; this part may hold fewer.
      if (one_row && chains == 1 && u % kPanel == 0 && u + 2 * kPanel <= end) panels = 2;
      units *= panels;
      vectors = static_cast<int>(blocks_of(units, L));
      args->K = of.planes;
      args->chains = chains;
      args->panel_step = kPanel * args->K;
      args->b = matrix_at<Storage>(of.matrix, u, of.planes, of.columns, &args->b_step);
    }
    Tile<T, Storage> tile(int R) const {
      return ChainTiles::get(R, vectors / panels, panels, chains);
    }
  };
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
