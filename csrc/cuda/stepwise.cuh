// The stepwise mode: the caller's library makes the recurrent product of a step for all rows, and
// one launch does the rest of the step, a thread for each unit of each row. It takes what does not
// fit on the chip, and float64.
//
// Bound: the launches at small sizes, then the product.
#pragma once

#include "steps.cuh"

namespace fastrnn {
namespace gpu {

// The scan step of a launch. False: there is none, since the last replay of a graph may have more
// steps than are left.
template <class P> FASTRNN_DEVICE bool find_step(const P& pass, int64_t* s) {
  if (!pass.replayed) return true;
  *s += *pass.replayed;
  return pass.begin <= *s && *s < pass.end;
}

// Calls f(direction, b, u, i = b * width + u) for this thread's share of all rows' values: of the
// units, or of h. A block takes a piece of a row at a time, or some whole ones; places are counted
// on from one to the next, without a division of 64 bits.
template <class P, class F> FASTRNN_DEVICE void for_values(const P& pass, int64_t width, F f) {
  const int columns = width < threads() ? static_cast<int>(width) : threads();
  const int rows = threads() / columns, pieces = (static_cast<int>(width) - 1) / columns + 1;
  const int row = thread() / columns, column = thread() % columns;
  const int64_t B = pass.scan.B, all = pass.directions * B;
  int64_t group = block() / pieces;
  int piece = block() % pieces;
  for (; group * rows < all; group += blocks() / pieces, piece += blocks() % pieces) {
    if (piece >= pieces) piece -= pieces, ++group;
    const int64_t r = group * rows + row, u = int64_t{piece} * columns + column;
    if (row >= rows || r >= all || u >= width) continue;
    const int d = r >= B;
    const int64_t b = r - d * B;
    f(pass.direction[d], b, u, b * width + u);
  }
}

// Scan step s, or with s = begin - 1 only the states that the window's first step goes on from.
template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    step_forward(FASTRNN_ARGUMENT ForwardPass pass, int64_t s) {
  if (!find_step(pass, &s)) return;
  using Unit = ForwardUnit<Cell, Math, S>;
  using A = Acc<S>;
  constexpr int G = Cell::kGates, kStates = Cell::kStates;
  for_values(pass, pass.H, [&](const ForwardDirection& d, int64_t b, int64_t u, int64_t i) {
    const typename Unit::At at{pass, d};
    const int64_t length = length_of(pass.scan, b);
    if (s < pass.begin) {
      Unit::enter(at, b, u, length);
      return;
    }
    const int64_t t = at.time(s);
    const typename Unit::Inputs in = Unit::load(at, t, b, u, length);
    Pack<A, G> sums;
    const S* product = static_cast<const S*>(d.product[0]) + b * G * pass.H + u;
    for (int g = 0; g < G; ++g) sums[g] = widen(product[g * pass.H]);
    Pack<A, kStates - 1> carry;
    for (int k = 1; k < kStates; ++k) carry[k - 1] = static_cast<const A*>(d.carry[k])[i];
    Unit::finish(at, {s, t, b, u}, in, {at, u}, sums, {carry.v, 1});
    for (int k = 1; k < kStates; ++k) static_cast<A*>(d.carry[k])[i] = carry[k - 1];
    if (in.runs) static_cast<S*>(d.factor[0])[i] = row_of<const S>(d.h, t, b)[u];
    if (s + 1 == pass.scan.T) Unit::leave(at, b, u, length, {carry.v, 1});
  });
}

// Scan step s, or with s = begin - 1 only what the window's first step leaves for the state before.
template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    step_backward(FASTRNN_ARGUMENT BackwardPass pass, int64_t s) {
  if (!find_step(pass, &s)) return;
  using Unit = BackwardUnit<Cell, Math, S>;
  using A = Acc<S>;
  constexpr int kStates = Cell::kStates;
  for_values(pass, pass.H, [&](const BackwardDirection& d, int64_t b, int64_t u, int64_t i) {
    const typename Unit::At at{pass, d};
    const int64_t t = at.time(s), length = length_of(pass.scan, b);
    Pack<A, kStates> ds;
    const bool last = s + 1 == pass.end;
    for (int k = 0; k < kStates; ++k)
      ds[k] = last ? Unit::load_dstate(at, k, i) : static_cast<const A*>(d.dstate[k])[i];
    if (s + 1 < pass.end)
      Unit::pass_on(at, at.time(s + 1), b, length, widen(static_cast<const S*>(d.product[0])[i]),
                    {ds.v, 1});
    if (s >= pass.begin) {
      const auto made = Unit::finish(at, t, b, u, Unit::load(at, t, b, u, length), {ds.v, 1});
      S* dproduct = static_cast<S*>(d.dproduct[0]) + b * Cell::kGates * pass.H + u;
      Unit::for_factors(made, [&](int g, S value) { dproduct[g * pass.H] = value; });
    }
    for (int k = 0; k < kStates; ++k)
      if (s < pass.begin)
        Unit::store_dstate(at, k, i, ds[k]);
      else
        static_cast<A*>(d.dstate[k])[i] = ds[k];
  });
}

}  // namespace gpu
}  // namespace fastrnn
