// The products of a step: which gates each of them serves, and in which planes the gradients of the
// gates lie.
#pragma once

#include <stdint.h>

#include "../cells/gates.h"
#include "kernel_table.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// The gates of one product. A projection is packed as if it were one gate of P units.
template <class Cell, int kPhase> struct Phase {
  using Of = Phases<Cell>;
  static constexpr bool kIsProjection = kPhase == 1 && Of::kProjects;
  static constexpr unsigned kMask =
      kPhase == 0 ? ((1u << Cell::kGates) - 1) & ~Of::kSecond : Of::kSecond;

  static constexpr int count() {
    int n = 0;
    for (int g = 0; g < Cell::kGates; ++g) n += (kMask >> g) & 1;
    return n;
  }
  static constexpr int kGates = kIsProjection ? 1 : count();
  // The cell's gate that is the i-th of these.
  static constexpr int gate(int i) {
    for (int g = 0; g < Cell::kGates; ++g)
      if (((kMask >> g) & 1) && i-- == 0) return g;
    return 0;
  }
  static constexpr bool is_split(int i) {
    return !kIsProjection && ((Cell::kSplit >> gate(i)) & 1);
  }
};

// The order of the gradient planes: x parts of the split gates, the gates of the second product,
// the other whole gates, r parts of the split ones. So dx = dgates W, dh = dgates R and the product
// that goes back to v each read one contiguous range of planes.
template <class Cell> struct Planes {
  static constexpr unsigned kSecond = Phases<Cell>::kSecond;
  static constexpr int count(unsigned mask) {
    int n = 0;
    for (int g = 0; g < Cell::kGates; ++g) n += (mask >> g) & 1;
    return n;
  }
  static constexpr int kSplitGates = count(Cell::kSplit), kSecondGates = count(kSecond);
  static constexpr int kCount = Cell::kGates + kSplitGates;
  // With those of the parameters of a unit, which go into no product.
  static constexpr int kAll = kCount + Cell::kUnit;
  // The first plane that goes back to h.
  static constexpr int kFirst = kSplitGates + kSecondGates;
  static constexpr bool is_split(int gate) { return (Cell::kSplit >> gate) & 1; }
  static constexpr bool is_second(int gate) { return (kSecond >> gate) & 1; }
  // Plane that holds the x part (the whole, if not split) of a gate.
  static constexpr int of_x(int gate) {
    int split = 0, second = 0, whole = 0;
    for (int g = 0; g < gate; ++g) ++(is_split(g) ? split : is_second(g) ? second : whole);
    return is_split(gate) ? split : is_second(gate) ? kSplitGates + second : kFirst + whole;
  }
  static constexpr int of_r(int gate) {
    return is_split(gate) ? Cell::kGates + of_x(gate) : of_x(gate);
  }
  // Inverse of both.
  static constexpr int gate_of(int plane) {
    for (int g = 0; g < Cell::kGates; ++g)
      if (of_x(g) == plane || of_r(g) == plane) return g;
    return -1;
  }
};

// A row of the gradients of a step: the planes of the gates, that of h where it is projected, those
// of the parameters of a unit, and v where there are two products.
template <class Cell> struct GradientRow {
  static constexpr bool kProjects = Phases<Cell>::kProjects;
  int64_t H, P;

  // Where the planes begin that go back to h and to v, those of a unit, and v itself.
  int64_t to_h() const { return Planes<Cell>::kFirst * H; }
  int64_t to_v() const {
    return (kProjects ? Planes<Cell>::kCount : Planes<Cell>::kSplitGates) * H;
  }
  int64_t of_units() const { return Planes<Cell>::kCount * H + (kProjects ? P : 0); }
  int64_t v() const { return planes(); }
  // Values that go back to v.
  int64_t of_second() const { return kProjects ? P : Planes<Cell>::kSecondGates * H; }
  // Rows that the gradients of the weights have together.
  int64_t planes() const { return of_units() + Cell::kUnit * H; }
  int64_t width() const { return planes() + (Phases<Cell>::kCount > 1 ? H : 0); }
};

// A block of units of all gates, with the parameters of a unit behind them.
template <class V, class Cell> using Gates = Pack<V, Cell::kGates + Cell::kUnit>;

// The gates of a product, out of its chains before h (x) and after it (r): a gate that is not split
// has one chain.
template <class Phase, class T, class V, int n>
FASTRNN_INLINE void load_gates(const T* x, const T* r, Pack<V, n>* xs, Pack<V, n>* rs) {
  for (int i = 0; i < Phase::kGates; ++i) {
    const int g = Phase::gate(i);
    (*rs)[g] = V::load(r + i * V::kLanes);
    (*xs)[g] = Phase::is_split(i) ? V::load(x + i * V::kLanes) : (*rs)[g];
  }
}

// The parameters of a unit.
template <class Cell, class T, class V, int n>
FASTRNN_INLINE void load_diag(const T* packed, Pack<V, n>* xs) {
  for (int k = 0; k < Cell::kUnit; ++k) (*xs)[Cell::kGates + k] = V::load(packed + k * V::kLanes);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
