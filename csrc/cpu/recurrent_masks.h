// Masks of what enters the products of a step (RecurrentMasks): which rows they are, and what of h
// and v they leave in forward.
#pragma once

#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// In how many versions h (phase 0) or v is multiplied: in one, or in one for each gate of the
// product.
template <class Cell, int phase> constexpr int64_t versions_of(int64_t masks) {
  return masks > 1 ? Phase<Cell, phase>::kGates : 1;
}

template <class Storage> struct MaskRows {
  RecurrentMasks of;
  const int64_t* row;  // of the batch, at a position

  int64_t count() const { return of.count; }

  // The mask of a gate at a position; null where there is none.
  FASTRNN_INLINE const Storage* at(int gate, int64_t position) const {
    const Storage* base = static_cast<const Storage*>(of.base);
    return base ? base + gate * of.gate_stride + row[position] * of.b_stride : nullptr;
  }
};

// Of the rows of a part at one step of forward, what the masks leave.
template <class Cell, class Storage> struct MaskedRows {
  MaskRows<Storage> masks;
  const ProductEntry* product;
  char* memory;            // [RecurrentMasks::count][rows], factors of P values
  int64_t first, rows, P;  // the position of the first row

  // What is projected enters no gate, and has no mask.
  template <int phase> bool serves() const {
    return masks.count() > 0 && !Phase<Cell, phase>::kIsProjection;
  }
  template <int phase> bool by_gate() const { return versions_of<Cell, phase>(masks.count()) > 1; }

  char* at(int gate, int64_t r) const {
    return memory + ((masks.count() > 1 ? gate : 0) * rows + r) * product->factor_bytes(P);
  }

  // Masks row(r) of each of `active` rows for the gates of a phase. bound: as
  // ProductEntry::factors().
  template <int phase, class Row> void make(int64_t active, float bound, Row row) const {
    for (int64_t i = 0; i < versions_of<Cell, phase>(masks.count()); ++i) {
      const int gate = Phase<Cell, phase>::gate(static_cast<int>(i));
      for (int64_t r = 0; r < active; ++r)
        product->factors(row(r), masks.at(gate, first + r), P, bound, at(gate, r));
    }
  }

  // A tile of which each gate goes on with a row of its own: one vector after the other. r: the
  // first of its R rows.
  template <int phase> void tile_of_gates(const TileArgs<Acc<Storage>>& args, int64_t r, int R,
                                          int N, int panels) const {
    using Gates = Phase<Cell, phase>;
    constexpr int64_t L = Vec<Acc<Storage>>::kLanes;
    const int64_t lanes = blocks_of(args.K, product->lane_values);
    for (int v = 0; v < N * panels; ++v) {
      const int i = v % Gates::kGates;
      TileArgs<Acc<Storage>> own = args;
      own.b = static_cast<const char*>(args.b) + vector_at(v, N, lanes) * L * product->lane_bytes;
      for (int k = 0; k < R; ++k) {
        own.a[k] = at(Gates::gate(i), r + k);
        own.init[k] = (Gates::is_split(i) ? args.shared_init : args.init[k]) + v * L;
        own.out[k] += v * L;
      }
      own.shared = 0;
      if (args.scales) own.scales += v * L;
      const AnyTile tile = product->tile(R, 1, 1, args.chains);
      reinterpret_cast<TileOf<Acc<Storage>>>(tile)(own);
    }
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
