// The products that kernels of all cells share. products.cpp makes them once for each level and
// element type, so that a kernel's unit compiles in half the time.
#pragma once

#include "microkernel.h"
#include "strips.h"

// `how` is extern where they are used, and nothing where they are made.
#define FASTRNN_SHARED_PRODUCTS(how, S)                                \
  how template struct Tiles<Factor<S>, S, LhsLayout::kRows>;           \
  how template struct Tiles<Factor<S>, Factor<S>, LhsLayout::kPacked>; \
  how template struct Strips<S>;
