// The drivers in linear mode: with lines for activations nothing saturates and nothing is damped
// away, so an error of indexing or of order cannot hide behind a tolerance, however long the
// sequence. Compared in double with the plainest loop over the same cell headers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cell_headers.h"
#include "check.h"
#include "cpu/dispatch.h"
#include "cpu/engine.h"
#include "cpu/team.h"
#include "run_call.h"

namespace {

using namespace fastrnn;

using Values = std::vector<double>;

constexpr int64_t T = 300, B = 5, I = 7, H = 35, D = 2;

View view_of(const Values& values, const Shape& shape) {
  View v;
  v.data = reinterpret_cast<char*>(const_cast<double*>(values.data()));
  v.itemsize = sizeof(double);
  v.kind = 'f';
  v.given = v.writeable = true;
  v.rank = shape.size();
  int64_t stride = sizeof(double);
  for (int i = v.rank - 1; i >= 0; --i) {
    v.shape[i] = shape[i], v.strides[i] = stride;
    stride *= shape[i];
  }
  return v;
}

struct Direction {
  const double *w_ih, *w_hh, *b_ih, *b_hh, *w_diag;
  double *dw_ih, *dw_hh, *db_ih, *db_hh, *dw_diag;
};

// One row in one direction, forward then backward. x, y, dy, dx: rows of the (T, B, .) arrays.
template <class Cell> void plain(const Direction& w, const double* x, double* y, const double* dy,
                                 double* dx, int64_t n, bool reverse) {
  constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kUnit;
  const Linear math;
  using Row = std::vector<double>;
  std::vector<Row> states((n + 1) * S, Row(H, 0.0)), gates(n, Row(2 * G * H)),
      saved(n, Row((Cell::kSaved + 1) * H));
  const auto time = [&](int64_t s) { return reverse ? n - 1 - s : s; };
  for (int64_t s = 0; s < n; ++s)
    for (int64_t u = 0; u < H; ++u) {
      Pack<double, G + K> xs, rs;
      for (int k = 0; k < K; ++k) xs[G + k] = w.w_diag[k * H + u];
      for (int g = 0; g < G; ++g) {
        const int64_t row = g * H + u;
        double a = w.b_ih[row], b = w.b_hh[row];
        for (int64_t i = 0; i < I; ++i) a += w.w_ih[row * I + i] * x[time(s) * B * I + i];
        for (int64_t k = 0; k < H; ++k) b += w.w_hh[row * H + k] * states[s * S][k];
        const bool split = (Cell::kSplit >> g) & 1;
        xs[g] = split ? a : a + b;
        rs[g] = b;
      }
      Pack<double, S> st;
      Pack<double, Cell::kSaved> save;
      for (int k = 0; k < S; ++k) st[k] = states[s * S + k][u];
      Cell::forward(math, xs, rs, st, save);
      for (int k = 0; k < S; ++k) states[(s + 1) * S + k][u] = st[k];
      for (int k = 0; k < Cell::kSaved; ++k) saved[s][k * H + u] = save[k];
      y[time(s) * B * D * H + u] = st[0];
    }
  std::vector<Row> ds(S, Row(H, 0.0));
  for (int64_t s = n - 1; s >= 0; --s) {
    Row da(G * H), db(G * H), dh(H, 0.0);
    for (int64_t u = 0; u < H; ++u) {
      Pack<double, S> before, after, d;
      Pack<double, G + K> xs, rs;
      for (int k = 0; k < K; ++k) xs[G + k] = w.w_diag[k * H + u];
      Pack<double, Cell::kSaved> save;
      for (int k = 0; k < S; ++k) {
        before[k] = states[s * S + k][u], after[k] = states[(s + 1) * S + k][u];
        d[k] = ds[k][u];
      }
      for (int k = 0; k < Cell::kSaved; ++k) save[k] = saved[s][k * H + u];
      d[0] += dy[time(s) * B * D * H + u];
      Cell::backward(math, save, before, after, d, xs, rs);
      for (int k = 0; k < S; ++k) ds[k][u] = d[k];
      for (int k = 0; k < K; ++k) w.dw_diag[k * H + u] += xs[G + k];
      for (int g = 0; g < G; ++g) {
        da[g * H + u] = xs[g];
        db[g * H + u] = (Cell::kSplit >> g) & 1 ? rs[g] : xs[g];
      }
    }
    for (int64_t row = 0; row < G * H; ++row) {
      w.db_ih[row] += da[row], w.db_hh[row] += db[row];
      for (int64_t i = 0; i < I; ++i) {
        w.dw_ih[row * I + i] += da[row] * x[time(s) * B * I + i];
        dx[time(s) * B * I + i] += da[row] * w.w_ih[row * I + i];
      }
      for (int64_t k = 0; k < H; ++k) {
        w.dw_hh[row * H + k] += db[row] * states[s * S][k];
        dh[k] += db[row] * w.w_hh[row * H + k];
      }
    }
    for (int64_t k = 0; k < H; ++k) ds[0][k] += dh[k];
  }
}

// gain: of the products, about. Near 1 (the slope is 1/4) a value lives through the whole sequence.
template <class Cell> void compare(const char* cell, double gain = 3) {
  std::mt19937 rng(7);
  std::normal_distribution<double> normal;
  const auto random = [&](size_t n, double scale) {
    Values v(n);
    for (double& a : v) a = scale * normal(rng);
    return v;
  };
  Weights weights(cell, ElementType{'f', sizeof(double)}, 1, D, I, H, true);
  const Spec& spec = weights.spec();
  Problem p;
  p.T = T, p.B = B;
  std::vector<Values> params, grads, expected_grads;
  std::vector<View> param_views, grad_views;
  for (const Parameter& q : parameters_of(spec)) {
    size_t n = 1;
    for (int64_t d : q.shape) n *= static_cast<size_t>(d);
    params.push_back(random(n, gain / std::sqrt(double(H))));
    grads.emplace_back(n);
    expected_grads.emplace_back(n, 0.0);
  }
  for (size_t i = 0; i < params.size(); ++i) {
    const Shape shape = parameters_of(spec)[i].shape;
    param_views.push_back(view_of(params[i], shape));
    grad_views.push_back(view_of(grads[i], shape));
  }
  const Values x = random(T * B * I, 0.5), dy = random(T * B * D * H, 1);
  Values y(T * B * D * H), dx(T * B * I), wanted_y(y.size()), wanted_dx(dx.size(), 0.0);
  const std::vector<int64_t> length = {T, 17, 0, T - 1, 120};

  for (int64_t d = 0; d < D; ++d)
    for (int64_t b = 0; b < B; ++b) {
      const auto of = [&](std::vector<Values>& all, int kind) {
        return spec.has(kind) ? all[static_cast<size_t>(spec.parameter(0, d, kind))].data()
                              : nullptr;
      };
      auto& sums = expected_grads;
      const Direction w = {of(params, kWeightIh), of(params, kWeightHh),   of(params, kBiasIh),
                           of(params, kBiasHh),   of(params, kWeightDiag), of(sums, kWeightIh),
                           of(sums, kWeightHh),   of(sums, kBiasIh),       of(sums, kBiasHh),
                           of(sums, kWeightDiag)};
      plain<Cell>(w, x.data() + b * I, wanted_y.data() + b * D * H + d * H,
                  dy.data() + b * D * H + d * H, wanted_dx.data() + b * I, length[b], d == 1);
    }

  const auto shape = [&](Role role) { return role_shape(role, spec, p); };
  const auto sized = [](const Shape& shape) {
    size_t n = 1;
    for (int64_t d : shape) n *= static_cast<size_t>(d);
    return Values(n);
  };
  const Values inner = sized(shape(Role::kInner)), states = sized(shape(Role::kStates)),
               saved = sized(shape(Role::kSaved));
  std::vector<Values> final, dinitial;
  Call f, back;
  f.kind = Kind::kForward, back.kind = Kind::kBackward;
  f.whole_tape = true;
  const Shape state = shape(Role::kInitial);
  for (int64_t k = 0; k < spec.states; ++k)
    final.push_back(sized(state)), dinitial.push_back(sized(state));
  for (int64_t k = 0; k < spec.states; ++k) {
    f.final[k] = view_of(final[k], state);
    back.dinitial[k] = view_of(dinitial[k], state);
  }
  View lengths = view_of(Values(), {B});
  lengths.data = reinterpret_cast<char*>(const_cast<int64_t*>(length.data()));
  lengths.kind = 'i';
  f.x = back.x = view_of(x, p.sequence(I));
  f.lengths = back.lengths = lengths;
  f.y = back.y = view_of(y, p.sequence(D * H));
  f.inner = back.inner = view_of(inner, shape(Role::kInner));
  f.states = back.states = view_of(states, shape(Role::kStates));
  f.saved = back.saved = view_of(saved, shape(Role::kSaved));
  back.dy = view_of(dy, p.sequence(D * H));
  back.dx = view_of(dx, p.sequence(I));
  back.dparameters = grad_views;
  weights.pack(param_views, false);
  weights.pack(param_views, true);
  run_call(weights, f);
  run_call(weights, back);

  const auto error = [](const Values& a, const Values& b) {
    double difference = 0, scale = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference = std::max(difference, std::fabs(a[i] - b[i]));
      scale = std::max(scale, std::fabs(b[i]));
    }
    return difference / scale;
  };
  // Roundings of chains of H + I terms over T steps, and of T * B terms.
  const double tolerance = 1e-12;
  EXPECT(error(y, wanted_y) <= tolerance, "%s: y: error %.2e", cell, error(y, wanted_y));
  EXPECT(error(dx, wanted_dx) <= tolerance, "%s: dx: error %.2e", cell, error(dx, wanted_dx));
  for (size_t i = 0; i < grads.size(); ++i)
    EXPECT(error(grads[i], expected_grads[i]) <= tolerance, "%s: d%s: error %.2e", cell,
           parameters_of(spec)[i].name.c_str(), error(grads[i], expected_grads[i]));
}

// A cell of a kernel whose functions are chosen, with all the parameters that the kernel has.
const char* served_by(const std::string& kernel) {
  for (const char* cell :
       {"rnn(relu)", "lstm_peephole", "lstm_coupled_peephole", "gru(relu, relu)"})
    if (parse_cell_name(cell).kernel == kernel) return cell;
  EXPECT(false, "no cell of %s", kernel.c_str());
  return "";
}

}  // namespace

int main() {
  for (const std::string& level : usable_levels()) {
    use_level(level);
    for (int threads = 1; threads <= 3; ++threads) {
      set_num_threads(threads);
#define FASTRNN_TWO_PHASES(name, Struct, header)
#define FASTRNN_PROJECTED(name, Struct, header)
#define FASTRNN_CHOSEN_TWO_PHASES(name, Struct, header)
#define FASTRNN_CHOSEN_PROJECTED(name, Struct, header)
#define FASTRNN_CELL(name, Struct, header) compare<Struct>(#name);
// States that gates see, and that a forget gate of 1 - i keeps, grow by themselves.
#define FASTRNN_CHOSEN_CELL(name, Struct, header) compare<Struct>(served_by(#name), 0.1);
#include "cells/registry.h"
#undef FASTRNN_CELL
#undef FASTRNN_TWO_PHASES
#undef FASTRNN_PROJECTED
#undef FASTRNN_CHOSEN_CELL
#undef FASTRNN_CHOSEN_TWO_PHASES
#undef FASTRNN_CHOSEN_PROJECTED
    }
  }
  return check::report("test_linear");
}
