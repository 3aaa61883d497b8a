// The engine driven from C++, for the sanitizers: random calls of every cell at every usable level
// on buffers of exact size, each compared with the scalar level, bit by bit with other thread
// counts, and made from several threads at once. `test_engine --calls N` sets how many calls;
// `--seed S`.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "array.h"
#include "check.h"
#include "cpu/dispatch.h"
#include "cpu/engine.h"
#include "cpu/processors.h"
#include "cpu/team.h"
#include "run_call.h"

namespace {

using namespace fastrnn;

std::mt19937 rng;

int64_t between(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(rng);
}

struct Case {
  std::string cell;
  int64_t T, B, I, H, L, D;
  bool bias, batch_first, initial, lengths, resets, holds, repeats, masks, packed;
  int64_t P;  // of a projection, or 0

  int64_t outputs() const { return D * (P ? P : H); }
  Weights weights(int element_bytes) const {
    return Weights(cell, ElementType{'f', element_bytes}, L, D, I, H, bias, P);
  }
};

template <class T> struct Inputs {
  Case c;
  Spec spec;
  Problem p;
  std::vector<Array<T>> parameters, initial, dfinal, masks;
  Array<int64_t> lengths, batch_sizes;
  Array<T> x, dy;
  Array<uint8_t> resets, holds;

  Inputs(const Case& k, const Spec& s)
      : c(k),
        spec(s),
        p{k.T, k.B, true, k.batch_first},
        lengths({k.B}),
        batch_sizes(k.packed ? pack_rows(&p) : Array<int64_t>({0})),
        x(p.sequence(k.I)),
        dy(p.sequence(k.outputs())),
        resets(flags()),
        holds(flags()) {
    x.random(1, &rng);
    dy.random(1, &rng);
    for (const Parameter& q : parameters_of(spec))
      parameters.push_back(Array<T>(q.shape).random(1 / std::sqrt(double(k.H)), &rng));
    for (int64_t i = 0; i < spec.states; ++i) {
      initial.push_back(Array<T>(role_shape(Role::kInitial, spec, p, i)).random(1, &rng));
      dfinal.push_back(Array<T>(role_shape(Role::kInitial, spec, p, i)).random(1, &rng));
    }
    for (int64_t l = 0; l + 1 < k.L; ++l)
      masks.push_back(Array<T>(p.sequence(k.outputs())).random(1, &rng));
    for (int64_t& n : lengths.values) n = between(0, k.T);
    for (uint8_t& r : resets.values) r = between(0, 3) == 0;
    for (uint8_t& h : holds.values) h = between(0, 2) == 0;
  }
  // Batch sizes that add up to the rows of x.
  static Array<int64_t> pack_rows(Problem* p) {
    Array<int64_t> sizes({p->T});
    int64_t n = p->B;
    for (int64_t& size : sizes.values) {
      size = n;
      p->rows += n;
      n = between(1, n);
    }
    p->packed_x = true;
    return sizes;
  }
  Shape flags() const {
    Shape s = p.sequence(1);
    s.pop_back();
    return s;
  }
  std::vector<View> parameter_views() const {
    std::vector<View> views;
    for (const Array<T>& a : parameters) views.push_back(a.view());
    return views;
  }
  template <class Call> void common(Call* call) const {
    call->x = x.view();
    call->batch_first = c.batch_first;
    if (c.initial)
      for (int64_t i = 0; i < spec.states; ++i) call->initial[i] = initial[i].view();
    if (c.packed) call->batch_sizes = batch_sizes.view();
    if (c.lengths) call->lengths = lengths.view();
    if (c.resets) call->resets = resets.view();
    if (c.holds) call->holds = holds.view();
    call->repeat_held = c.repeats;
    call->has_masks = c.masks;
    if (c.masks)
      for (const Array<T>& m : masks) call->masks.push_back(m.view());
  }
};

template <class T> struct Results {
  std::vector<Array<T>> arrays;  // y, final states, dx, dinitial, dparameters

  Results(const Inputs<T>& in, Weights* w, bool keep_tape, int64_t recompute = 0,
          bool whole_tape = false) {
    const Spec& spec = in.spec;
    Call f;
    in.common(&f);
    f.recompute = recompute;
    f.whole_tape = whole_tape;
    const Problem p = problem_of(*w, f);
    const auto shape = [&](Role role) { return role_shape(role, spec, p); };
    Array<T> inner(shape(Role::kInner)), states(shape(Role::kStates)), saved(shape(Role::kSaved));
    arrays.emplace_back(in.p.sequence(in.c.outputs()));
    for (int64_t i = 0; i < spec.states; ++i)
      arrays.emplace_back(role_shape(Role::kInitial, spec, in.p, i));
    f.y = arrays[0].view();
    for (int64_t i = 0; i < spec.states; ++i) f.final[i] = arrays[1 + i].view();
    f.kind = keep_tape ? Kind::kForward : Kind::kInfer;
    f.inner = inner.view(), f.states = states.view(), f.saved = saved.view();
    w->pack(in.parameter_views(), false);
    run_call(*w, f);
    if (!keep_tape) return;

    const size_t dx = arrays.size();
    arrays.emplace_back(in.x.shape);
    for (int64_t i = 0; i < spec.states; ++i)
      arrays.emplace_back(role_shape(Role::kInitial, spec, in.p, i));
    for (const Array<T>& q : in.parameters) arrays.emplace_back(q.shape);
    Call b;
    b.kind = Kind::kBackward;
    in.common(&b);
    b.recompute = recompute;
    b.y = arrays[0].view();
    b.inner = inner.view(), b.states = states.view(), b.saved = saved.view();
    b.dy = in.dy.view();
    b.dx = arrays[dx].view();
    for (int64_t i = 0; i < spec.states; ++i) {
      if (in.c.initial) b.dfinal[i] = in.dfinal[i].view();
      b.dinitial[i] = arrays[dx + 1 + i].view();
    }
    for (size_t i = 0; i < in.parameters.size(); ++i)
      b.dparameters.push_back(arrays[dx + 1 + spec.states + i].view());
    w->pack(in.parameter_views(), true);
    run_call(*w, b);
  }

  bool same_bits(const Results& other, size_t count) const {
    for (size_t i = 0; i < count; ++i)
      if (arrays[i].values.size() &&
          std::memcmp(arrays[i].values.data(), other.arrays[i].values.data(),
                      arrays[i].values.size() * sizeof(T)))
        return false;
    return true;
  }
  double error(const Results& other) const {
    double worst = 0;
    for (size_t i = 0; i < arrays.size(); ++i) {
      double difference = 0, scale = 1e-30;
      for (size_t j = 0; j < arrays[i].values.size(); ++j) {
        difference = std::max(
            difference, std::fabs(double(arrays[i].values[j]) - double(other.arrays[i].values[j])));
        scale = std::max(scale, std::fabs(double(other.arrays[i].values[j])));
      }
      worst = std::max(worst, difference / std::max(scale, 1e-3));
    }
    return worst;
  }
};

bool has_kernel(const std::string& name) {
  for (const KernelEntry* kernel : all_kernels())
    if (name == kernel->cell) return true;
  return false;
}

// With those whose functions are chosen, and with peepholes, where the build has them.
std::vector<std::string> all_cells() {
  std::vector<std::string> cells = cell_names();
  for (const char* cell :
       {"lstm_peephole", "lstm_coupled(softsign, tanh, elu(0.5))",
        "lstm_coupled_peephole(clip=0.5)", "gru(hard_sigmoid(0.2, 0.5), softplus, clip=2.0)",
        "rnn(leaky_relu(0.1), clip=1.5)", "lstm_peephole(state=-0.5:0.25)",
        "gru(clip=2.0, state=-inf:0.25)"})
    if (has_kernel(parse_cell_name(cell).kernel)) cells.push_back(cell);
  return cells;
}

Case random_case() {
  const std::vector<std::string> cells = all_cells();
  Case c{};
  c.cell = cells[static_cast<size_t>(between(0, static_cast<int64_t>(cells.size()) - 1))];
  // Now and then a small batch of many units, which members split by units.
  const bool wide = between(0, 3) == 0;
  c.T = between(0, wide ? 4 : 9);
  c.B = wide ? between(1, 2) : between(0, 11);
  c.I = between(1, 40);
  c.H = wide ? between(100, 300) : between(1, 70);
  c.L = between(1, 3);
  c.D = between(1, 2);
  c.bias = between(0, 1), c.batch_first = between(0, 1), c.initial = between(0, 1);
  c.lengths = between(0, 1), c.resets = between(0, 1), c.masks = between(0, 1);
  c.holds = between(0, 2) == 0, c.repeats = between(0, 1);
  c.packed = c.T * c.B > 0 && between(0, 3) == 0;
  if (c.packed) c.lengths = c.resets = c.holds = false;
  if (can_project(c.cell) && between(0, 1)) c.P = between(1, c.H + 9);
  return c;
}

std::string name_of(const Case& c, const std::string& level) {
  char text[200];
  std::snprintf(text, sizeof(text),
                "%s_%s_T%d_B%d_I%d_H%d_L%d_D%d P%d b%d f%d s%d l%d r%d h%d%d m%d p%d",
                level.c_str(), c.cell.c_str(), int(c.T), int(c.B), int(c.I), int(c.H), int(c.L),
                int(c.D), int(c.P), c.bias, c.batch_first, c.initial, c.lengths, c.resets, c.holds,
                c.repeats, c.masks, c.packed);
  return text;
}

template <class T> void run_case(const Case& c, double tolerance) {
  const auto weights = [&] { return c.weights(sizeof(T)); };
  use_level("scalar");
  Weights scalar = weights();
  const Inputs<T> in(c, scalar.spec());
  set_num_threads(1);
  const Results<T> expected(in, &scalar, true);
  for (const std::string& level : usable_levels()) {
    use_level(level);
    const std::string name = name_of(c, level);
    Weights w = weights();
    set_num_threads(1);
    const Results<T> alone(in, &w, true);
    const double error = alone.error(expected);
    EXPECT(error <= tolerance, "%s: error %.2e against the scalar level", name.c_str(), error);
    const size_t outputs = static_cast<size_t>(1 + in.spec.states);
    EXPECT(Results<T>(in, &w, false).same_bits(alone, outputs), "%s: other bits without a tape",
           name.c_str());
    for (int threads = 2; threads <= 4; ++threads) {
      set_num_threads(threads);
      EXPECT(Results<T>(in, &w, true).same_bits(alone, alone.arrays.size()),
             "%s: other bits with %d threads", name.c_str(), threads);
    }
    for (int64_t recompute : {0, 1, 3})
      for (bool whole : {false, true})
        EXPECT(Results<T>(in, &w, true, recompute, whole).same_bits(alone, alone.arrays.size()),
               "%s: other bits with recompute=%d, whole_tape=%d", name.c_str(), int(recompute),
               whole);
  }
}

// One step from the parameters as they lie has the bits of one from packed weights.
template <class T> void run_step(Case c) {
  c.T = 1, c.B = between(1, kStepRows), c.lengths = c.resets = c.holds = c.masks = c.packed = false;
  for (const std::string& level : usable_levels()) {
    use_level(level);
    Weights packed = c.weights(sizeof(T));
    if (!packed.kernel().step) return;
    const Inputs<T> in(c, packed.spec());
    set_num_threads(1);
    const Results<T> expected(in, &packed, false);
    for (int threads = 1; threads <= 3; ++threads) {
      set_num_threads(threads);
      Results<T> found = expected;
      for (Array<T>& a : found.arrays) a.random(1, &rng);
      const Weights w = c.weights(sizeof(T));
      Call call;
      in.common(&call);
      call.y = found.arrays[0].view();
      for (int64_t i = 0; i < in.spec.states; ++i) call.final[i] = found.arrays[1 + i].view();
      const std::string name = name_of(c, level);
      call.parameters = in.parameter_views();
      const Problem p = problem_of(w, call);
      EXPECT(takes_step(w, p, call), "%s: is no step", name.c_str());
      step(w, p, call);
      EXPECT(found.same_bits(expected, found.arrays.size()),
             "%s: other bits of a step with %d threads", name.c_str(), threads);
    }
  }
}

// So long that backward makes the steps anew in several windows, at one level; and with one row,
// whose steps one member takes while the others help.
void run_windows(const std::string& cell, int64_t T, int64_t B, int64_t P) {
  Case c{};
  c.cell = cell, c.T = T, c.B = B, c.I = 3, c.H = 50, c.L = 1, c.D = 2, c.P = P;
  c.bias = c.initial = c.resets = true, c.lengths = B > 1;
  use_level(usable_levels().back());
  Weights w = c.weights(4);
  const Inputs<float> in(c, w.spec());
  set_num_threads(2);
  const Results<float> expected(in, &w, true);
  for (int64_t recompute : {1, 7, 1000})
    EXPECT(Results<float>(in, &w, true, recompute).same_bits(expected, expected.arrays.size()),
           "%s: other bits in windows, recompute=%d", cell.c_str(), int(recompute));
}

// Several threads use one set of weights, the first uses (which pack) included.
void run_together(const Case& c) {
  Weights w = c.weights(4), own = c.weights(4);
  const Inputs<float> in(c, w.spec());
  set_num_threads(2);
  const Results<float> expected(in, &own, true);
  std::vector<int> same(4, 0);
  std::vector<std::thread> callers;
  for (size_t i = 0; i < same.size(); ++i)
    callers.emplace_back([&, i] {
      for (int repeat = 0; repeat < 3; ++repeat)
        same[i] += Results<float>(in, &w, true).same_bits(expected, expected.arrays.size());
    });
  for (std::thread& caller : callers) caller.join();
  for (int count : same) EXPECT(count == 3, "%s: other bits when called at once", c.cell.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  int calls = 40;
  unsigned seed = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--calls")) calls = std::atoi(argv[i + 1]);
    if (!std::strcmp(argv[i], "--seed")) seed = static_cast<unsigned>(std::atoi(argv[i + 1]));
  }
  rng.seed(seed);
  pretend_processors(8);
  for (int i = 0; i < calls; ++i) {
    const Case c = random_case();
    run_case<float>(c, 2e-4);
    run_case<double>(c, 1e-11);
    run_step<float>(c), run_step<double>(c);
    if (i % 4 == 0) run_together(c);
  }
  for (const std::string& cell : all_cells())
    for (const int64_t P : {0, 23})
      if (!P || can_project(cell)) run_windows(cell, 150, 11, P), run_windows(cell, 900, 1, P);
  return check::report("test_engine");
}
