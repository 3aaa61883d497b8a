// The products that kernels of all cells share. products.cpp makes them once for each level and
// element type, so that a kernel's unit compiles in half the time.
#pragma once

#include "microkernel.h"
#include "pack.h"
#include "strips.h"

// `how` is extern where they are used, and nothing where they are made.
#define FASTRNN_SHARED_PRODUCTS(how, S)                                \
  how template struct Tiles<Factor<S>, S, LhsLayout::kRows>;           \
  how template struct Tiles<Factor<S>, Factor<S>, LhsLayout::kPacked>; \
  how template struct Strips<S>;

namespace fastrnn {
namespace FASTRNN_ISA {

// The ProductEntry of rows of type S and weights of type W.
template <class S, class W> struct ProductOf {
  using Left = RowFactors<S, W>;
  using T = Acc<S>;

  static AnyTile tile(int R, int N, int panels, int chains) {
    using RowTiles = Tiles<typename Left::Type, W, LhsLayout::kRows>;
    return reinterpret_cast<AnyTile>(RowTiles::get(R, N, panels, chains));
  }
  static constexpr ProductEntry entry(const char* scheme) {
    return {FASTRNN_TEXT(FASTRNN_UNIT_LEVEL),
            scheme,
            Stored<S>::kKind,
            sizeof(S),
            Vec<T>::kLanes,
            sizeof(Lane<W>),
            Lanes<W>::kValues,
            Multiply<typename Left::Type, W>::kParts,
            is_scaled<W>,
            Left::kCopies,
            Left::bytes,
            Left::of,
            pack_gates<W>,
            tile};
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
