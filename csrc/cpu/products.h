// The products that kernels of all cells share. products.cpp makes them once for each level and
// element type, so that a kernel's unit compiles in half the time; a unit that needs others, of
// another mask of split gates or another storage type, makes these for itself.
#pragma once

#include "microkernel.h"
#include "strips.h"

// `how` is extern where they are used, and nothing where they are made. The masks are those of
// no split gate, of all, and of the GRU's.
#define FASTRNN_SHARED_PRODUCTS(how, S)                                    \
  how template struct Tiles<Factor<S>, S, LhsLayout::kRows, ~0u>;          \
  how template struct Tiles<Factor<S>, S, LhsLayout::kRows, 0u>;           \
  how template struct Tiles<Factor<S>, S, LhsLayout::kRows, 1u << 2>;      \
  how template struct Tiles<Factor<S>, Factor<S>, LhsLayout::kPacked, 0u>; \
  how template struct Strips<S>;
