#include <algorithm>
#include <cstring>
#include <utility>

#include "planes.h"
#include "program.h"

namespace fastrnn {

bool recomputes(const Spec& spec, const Problem& problem) {
  return problem.recompute > 0 && (spec.saved > 0 || spec.states > 1);
}

int64_t window_steps(const Problem& problem, int64_t at_least) {
  const int64_t all = std::max<int64_t>(1, problem.T), k = problem.recompute;
  return k >= all ? all : std::min(all, ceil_div(at_least, k) * k);
}

namespace {

class Builder {
 public:
  Builder(const Spec& spec, const Problem& problem, const Call& call, const Lowering& lowering,
          std::pmr::memory_resource* memory)
      : spec_(spec), p_(problem), call_(call), lowering_(lowering), program_(memory) {}

  Program build() {
    program_.buffers.reserve(8);  // of a call with one layer
    if (lowering_.products && (p_.T == 0 || p_.B == 0))
      pass_through();
    else if (call_.backward())
      backward();
    else
      forward();
    return std::move(program_);
  }

 private:
  const Spec& spec_;
  const Problem& p_;
  const Call& call_;
  const Lowering& lowering_;
  Program program_;
  int64_t window_rows_ = 0;  // of packed arrays

  // ---- buffers: each is made where it is first asked for ----

  int add(const Buffer& buffer) {
    const auto& all = program_.buffers;
    for (size_t i = 0; i < all.size(); ++i)
      if (same(all[i], buffer)) return static_cast<int>(i);
    program_.buffers.push_back(buffer);
    return static_cast<int>(program_.buffers.size()) - 1;
  }
  static bool same(const Buffer& a, const Buffer& b) {
    if (a.item != b.item || !a.scratch != !b.scratch) return false;
    return a.scratch ? std::strcmp(a.scratch, b.scratch) == 0 && a.shape == b.shape
                     : a.role == b.role;
  }
  int scratch(const char* name, int64_t item, const Shape& shape, bool as_x = false,
              bool accumulator = false) {
    return add({name, Role::kX, item, shape, accumulator, as_x});
  }
  int array(Role role, int64_t item = 0) {
    const RoleRule& rule = rule_of(role);
    if (rule.each == Each::kParameter)
      return add({nullptr, role, item, parameter_shape(spec_, item), false, false});
    const bool as_x = is_sequence(role);
    const bool accumulator = is_accumulator(rule, item);
    // Shapes are for products. Of the tape's outputs, a layer's part.
    if (!lowering_.products) return add({nullptr, role, item, {}, accumulator, as_x});
    const Shape shape = role == Role::kInner ? Shape{p_.T, p_.B, spec_.layer_outputs()}
                                             : role_shape(role, spec_, p_, item);
    return add({nullptr, role, item, shape, accumulator, as_x});
  }

  bool is_last(int64_t layer) const { return layer + 1 == spec_.layers; }
  bool masked(int64_t layer) const { return layer > 0 && call_.has_masks; }
  int output(int64_t layer) {
    if (is_last(layer)) return array(Role::kY);
    if (call_.kind != Kind::kInfer) return array(Role::kInner, layer);
    return scratch("output", layer % 2, between());
  }
  // What goes from layer to layer.
  Shape between() const {
    if (p_.packed) return {p_.rows, spec_.layer_outputs()};
    return {p_.T, p_.B, spec_.layer_outputs()};
  }
  int input(int64_t layer) { return layer == 0 ? array(Role::kX) : output(layer - 1); }
  int mask(int64_t layer) { return masked(layer) ? array(Role::kMask, layer - 1) : kNoBuffer; }

  // What a layer reads, masked: where products are ops of their own.
  int masked_input(int64_t layer) {
    if (!masked(layer)) return input(layer);
    const int to = scratch("masked input", 0, {p_.T, p_.B, spec_.layer_outputs()});
    copy_rows(input(layer), to, mask(layer));
    return to;
  }

  // ---- ops ----

  void op(const Op& op) { program_.ops.push_back(op); }
  void copy_whole(int from, int to) { op(Copy{CopyRule::kWhole, from, to}); }
  void copy_rows(int from, int to, int mask) { op(Copy{CopyRule::kRows, from, to, mask, 0, p_.T}); }

  Matrix rows(int buffer, int64_t first, int64_t count) const {
    const Shape& shape = program_.buffers[static_cast<size_t>(buffer)].shape;
    return {buffer, first, count, 0, shape[shape.size() - 1]};
  }
  Matrix whole(int buffer) const {
    const Shape& shape = program_.buffers[static_cast<size_t>(buffer)].shape;
    int64_t count = 1;
    for (int i = 0; i + 1 < shape.size(); ++i) count *= shape[i];
    return rows(buffer, 0, count);
  }
  Matrix columns(Matrix m, int64_t first, int64_t count) const {
    m.column = first, m.columns = count;
    return m;
  }

  // The times of scan steps of a direction.
  int64_t first_time(int64_t direction, int64_t begin, int64_t end) const {
    return call_.is_reversed(direction) ? p_.T - end : begin;
  }

  // Rows of a layer's input at the times of a window, time first and neighbours. Where some rows do
  // not run they are a copy: what is there may be anything, and 0 times NaN is NaN.
  Matrix input_rows(int64_t layer, int buffer, int64_t direction, int64_t begin, int64_t end) {
    const int64_t n = end - begin, t = first_time(direction, begin, end);
    if (!batch_first(layer) && !call_.lengths.given && !call_.holds.given)
      return rows(buffer, t * p_.B, n * p_.B);
    const int64_t width = spec_.layer_inputs(layer);
    const int to = scratch("input rows", 2 * (layer > 0) + direction, {window(), p_.B, width});
    op(Copy{CopyRule::kRunning, buffer, to, kNoBuffer, t, t + n});
    return rows(to, 0, n * p_.B);
  }
  // Is a layer's input laid out with the batch first?
  bool batch_first(int64_t layer) const { return layer == 0 && p_.batched && p_.batch_first; }

  Gemm gate_product(int64_t layer, int64_t direction, const Matrix& input, const Matrix& gates) {
    const int w_ih = array(Role::kParameter, spec_.parameter(layer, direction, kWeightIh));
    return {gates, input, whole(w_ih), false, true, false};
  }

  Recurrence recurrence(int64_t layer, int direction, int64_t begin, int64_t end) {
    return {layer,       direction,     begin,     end,       input(layer),
            mask(layer), output(layer), kNoBuffer, kNoBuffer, kNoBuffer};
  }
  Scan scan(int64_t layer, int direction, int64_t begin, int64_t end) {
    return {recurrence(layer, direction, begin, end), false, {kNoBuffer, kNoBuffer}, kNoBuffer};
  }

  // ---- forward ----

  void forward() {
    for (int64_t l = 0; l < spec_.layers; ++l) {
      Scan s = scan(l, kAllDirections, 0, lowering_.products ? p_.T : lowering_.steps);
      if (call_.keep_tape()) {
        if (spec_.states > 1) s.states = array(Role::kStates, l);
        if (spec_.saved > 0 && !p_.recompute) s.saved = array(Role::kSaved, l);
      }
      if (lowering_.products) {
        const int below = masked_input(l);
        const bool as_x = batch_first(l);
        const int64_t GH = spec_.gates * spec_.units;
        const Shape shape = as_x ? Shape{p_.B, p_.T, GH} : Shape{p_.T, p_.B, GH};
        for (int d = 0; d < spec_.directions; ++d) {
          s.gates[d] = scratch("gates", d, shape, as_x);
          op(gate_product(l, d, whole(below), whole(s.gates[d])));
        }
        op(s);
      } else {
        for (s.direction = 0; s.direction < spec_.directions; ++s.direction) op(s);
      }
    }
  }

  // ---- backward ----

  int64_t window() const {
    return std::max<int64_t>(1, recomputes(spec_, p_) ? lowering_.window : p_.T);
  }

  // Calls f(begin, end) for each window of steps, the last first.
  template <class F> void for_windows(F f) const {
    int64_t end = lowering_.steps;
    do {
      const int64_t begin = window_begin(end);
      f(begin, end);
      end = begin;
    } while (end > 0);
  }
  // Of the window that ends at a step.
  int64_t window_begin(int64_t end) const {
    const int64_t n = window(), *offsets = lowering_.offsets;
    const int64_t k = offsets && recomputes(spec_, p_) ? p_.recompute : n;
    int64_t begin = end > 0 ? (end - 1) / k * k : 0;
    while (offsets && begin > 0 && offsets[end] - offsets[begin - k] <= n * p_.B) begin -= k;
    return begin;
  }
  // Rows of the window that has the most.
  int64_t most_rows() const {
    int64_t most = 0;
    for_windows([&](int64_t begin, int64_t end) {
      most = std::max(most, lowering_.offsets[end] - lowering_.offsets[begin]);
    });
    return most;
  }

  void backward() {
    if (p_.packed) window_rows_ = most_rows();
    int dy = array(Role::kDy);
    for (int64_t l = spec_.layers - 1; l >= 0; --l) {
      const int dx = input_gradient(l);
      if (lowering_.products)
        back_with_products(l, dy, dx);
      else
        back(l, dy, dx);
      dy = dx;
    }
  }

  int input_gradient(int64_t layer) {
    if (layer > 0) return scratch("gradient of an output", layer % 2, between());
    if (!call_.dx.given) return kNoBuffer;
    if (lowering_.products && batch_first(0))  // products need time first
      return scratch("dx", 0, {p_.T, p_.B, spec_.inputs});
    return array(Role::kInputGradient);
  }

  // Arrays of a window's rows.
  Shape of_window(Shape arrays, int64_t width) const {
    if (p_.packed) {
      arrays.push_back(window_rows_);
    } else {
      arrays.push_back(window());
      arrays.push_back(p_.B);
    }
    arrays.push_back(width);
    return arrays;
  }

  // A window of a layer: back through it, and the scan before that where it is recomputed. Both
  // have the states and saved values of the tape, or those that the scan computes again.
  std::pair<Scan, ScanBackward> window_of(int64_t layer, int direction, int64_t begin, int64_t end,
                                          int dy) {
    Recurrence r = recurrence(layer, direction, begin, end);
    const int64_t D = lowering_.products ? spec_.directions : 1, H = spec_.units;
    const bool again = recomputes(spec_, p_);
    if (spec_.states > 1) {
      const int tape = array(Role::kStates, layer);
      r.states = again ? scratch("states of a window", 0, of_window({spec_.states - 1, 1, D}, H),
                                 false, true)
                       : tape;
      r.checkpoints = again ? tape : kNoBuffer;
    }
    if (spec_.saved > 0)
      r.saved = again ? scratch("saved of a window", 0, of_window({1, D}, spec_.saved * H))
                      : array(Role::kSaved, layer);
    const bool first = end >= lowering_.steps;
    return {{r, true, {kNoBuffer, kNoBuffer}, kNoBuffer},
            {r, dy, kNoBuffer, false, {kNoBuffer, kNoBuffer}, first}};
  }

  // Scans that do all of it: one direction after the other.
  void back(int64_t layer, int dy, int dx) {
    for (int d = 0; d < spec_.directions; ++d)
      for_windows([&](int64_t begin, int64_t end) {
        auto [again, s] = window_of(layer, d, begin, end, dy);
        s.dx = dx, s.accumulate_dx = d > 0;
        if (recomputes(spec_, p_)) {
          again.window_output = scratch("output of a window", 0, of_window({}, spec_.outputs()));
          op(again);
        }
        op(s);
      });
  }

  void back_with_products(int64_t layer, int dy, int dx) {
    const bool reads_input = !call_.dparameters.empty() || recomputes(spec_, p_);
    const int below = reads_input ? masked_input(layer) : kNoBuffer;
    const bool several = window() < p_.T && spec_.directions > 1;
    // Windows of the two directions come in opposite orders, so neither is the first everywhere.
    if (dx != kNoBuffer && several) copy_whole(kNoBuffer, dx);
    for_windows([&](int64_t begin, int64_t end) {
      auto [again, s] = window_of(layer, kAllDirections, begin, end, dy);
      back_through(s, again, below, dx, several);
    });
    if (masked(layer)) copy_rows(dx, dx, mask(layer));
    if (layer == 0 && dx != kNoBuffer && program_.buffers[static_cast<size_t>(dx)].scratch)
      copy_rows(dx, array(Role::kInputGradient), kNoBuffer);
  }

  // One window: first all that the products read, then the scan, then the products.
  void back_through(ScanBackward& s, Scan& again, int below, int dx, bool add_to_dx) {
    const bool parameters = !call_.dparameters.empty(), recompute = recomputes(spec_, p_);
    const int64_t rows_of_window = (s.end - s.begin) * p_.B, GH = spec_.gates * spec_.units;
    const int64_t planes =
        plane_count(static_cast<int>(spec_.gates), spec_.split_gates) + spec_.unit_parameters;
    Matrix x[2], before[2];
    for (int d = 0; d < spec_.directions; ++d) {
      s.dgates[d] = scratch("gradient of the gates", d, {window(), p_.B, planes * spec_.units});
      if (spec_.projection)
        s.dprojected[d] =
            scratch("gradient of a projected h", d, {window(), p_.B, spec_.projection});
      if (spec_.two_products() && parameters)
        s.v[d] = scratch("v", d, {window(), p_.B, spec_.units});
      if (parameters || recompute) x[d] = input_rows(s.layer, below, d, s.begin, s.end);
      if (parameters) before[d] = output_before(s, d);
    }
    if (recompute) {
      for (int d = 0; d < spec_.directions; ++d) {
        again.gates[d] = scratch("gates", d, {window(), p_.B, GH});
        op(gate_product(s.layer, d, x[d], rows(again.gates[d], 0, rows_of_window)));
      }
      op(again);
    }
    op(s);
    for (int d = 0; d < spec_.directions; ++d) {
      const Matrix dgates = rows(s.dgates[d], 0, rows_of_window);
      if (dx != kNoBuffer) {
        const int w_ih = array(Role::kParameter, spec_.parameter(s.layer, d, kWeightIh));
        const Matrix to = rows(dx, first_time(d, s.begin, s.end) * p_.B, rows_of_window);
        op(Gemm{to, columns(dgates, 0, GH), whole(w_ih), false, false, d > 0 || add_to_dx});
      }
      if (parameters) add_to_weights(s, d, dgates, x[d], before[d]);
    }
  }

  // The output before each step of a window, (n * B, P).
  Matrix output_before(const ScanBackward& s, int direction) {
    const int64_t n = s.end - s.begin, t = first_time(direction, s.begin, s.end);
    const int to = scratch("output before", direction, {window(), p_.B, spec_.outputs()});
    op(Copy{CopyRule::kBefore, s.output, to, kNoBuffer, t, t + n, s.layer, direction});
    return rows(to, 0, n * p_.B);
  }

  // What a window adds to the gradients of the weights of a pass; the biases' are the scan's.
  void add_to_weights(const ScanBackward& s, int direction, const Matrix& dgates, const Matrix& x,
                      const Matrix& before) {
    const int64_t H = spec_.units;
    const int gates = static_cast<int>(spec_.gates);
    const int of_h = gates - static_cast<int>(spec_.second_gates);
    const Matrix v = spec_.two_products() ? rows(s.v[direction], 0, dgates.rows) : Matrix{};
    // To the rows of a weight that have given what these are the gradients of, from one row on.
    const auto add = [&](int kind, int64_t row, const Matrix& gradients, const Matrix& factor) {
      const int to = array(Role::kParameterGradient, spec_.parameter(s.layer, direction, kind));
      op(Gemm{rows(to, row, gradients.columns), gradients, factor, true, false, !s.first});
    };
    const auto add_hh = [&](int gate, int plane, int count, const Matrix& factor) {
      if (count > 0) add(kWeightHh, gate * H, columns(dgates, plane * H, count * H), factor);
    };
    add(kWeightIh, 0, columns(dgates, 0, gates * H), x);
    for_recurrent_planes(gates, spec_.split_gates, [&](int gate, int plane, int count) {
      const int n = std::clamp(of_h - gate, 0, count);
      add_hh(gate, plane, n, before);
      add_hh(gate + n, plane + n, count - n, v);
    });
    if (spec_.projection) add(kWeightHr, 0, rows(s.dprojected[direction], 0, dgates.rows), v);
  }

  // ---- no steps or no rows: states go on as they came, and gradients of parameters are zero ----

  void pass_through() {
    const auto states = [&](Role from, Role to, const View* given, const View* wanted) {
      for (int64_t k = 0; k < spec_.states; ++k)
        if (wanted[k].given) copy_whole(given[k].given ? array(from, k) : kNoBuffer, array(to, k));
    };
    if (!call_.backward()) return states(Role::kInitial, Role::kFinal, call_.initial, call_.final);
    states(Role::kFinalGradient, Role::kInitialGradient, call_.dfinal, call_.dinitial);
    for (int64_t i = 0; i < static_cast<int64_t>(call_.dparameters.size()); ++i)
      copy_whole(kNoBuffer, array(Role::kParameterGradient, i));
  }
};

}  // namespace

Program lower(const Spec& spec, const Problem& problem, const Call& call, const Lowering& lowering,
              std::pmr::memory_resource* memory) {
  return Builder(spec, problem, call, lowering, memory).build();
}

}  // namespace fastrnn
