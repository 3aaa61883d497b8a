// Every kind of pass of every cell on the emulator, at the smallest shapes that use every
// primitive: for sanitizers, and for seeing that each primitive that orders memory is missed when
// it is taken away. Forward and backward in the grid mode must give what the stepwise mode gives.
//
//   test_races [--remove NAME] [--list] [--quick] [--cell NAME]     (quick: in one schedule)
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "cuda/engine.h"
#include "device_emulated.h"
#include "emulator.h"

namespace {

using namespace fastrnn;
using namespace fastrnn::gpu;

struct CaseSizes {
  int64_t T, B, H;
};

std::mt19937 random_numbers(1);

// An array of floats and its View.
struct Block {
  std::vector<float> values;
  View view;
  explicit Block(const Shape& shape, bool random = true) {
    int64_t n = 1;
    for (int64_t each : shape) n *= each;
    values.resize(static_cast<size_t>(n));
    std::uniform_real_distribution<float> uniform(-0.5f, 0.5f);
    for (float& v : values) v = random ? uniform(random_numbers) : 0.0f;
    view = fresh_view(values.data(), 4, shape);
    view.device = 0;
  }
};

using Results = std::map<std::string, std::vector<float>>;

// One layer, two directions, lengths and resets; the library's products are loops.
struct Case {
  Stack stack;
  CaseSizes n;
  int64_t G, S, V, P;
  std::vector<Block> parameters, gates;
  std::vector<int64_t> lengths;
  std::vector<uint8_t> resets;
  std::vector<Block> initial, dfinal;
  Block dy;
  Call call;

  Case(const std::string& cell, CaseSizes shape)
      : stack(make_stack(cell, "float32", 1, 2, 3, shape.H, true)),
        n(shape),
        G(stack.spec.gates),
        S(stack.spec.states),
        V(stack.spec.saved),
        P(stack.kernels->planes),
        dy({n.T, n.B, 2 * n.H}) {
    for (const Parameter& p : parameters_of(stack.spec)) parameters.emplace_back(p.shape);
    for (int d = 0; d < 2; ++d) gates.emplace_back(Shape{n.T, n.B, G * n.H});
    for (int k = 0; k < S; ++k) {
      initial.emplace_back(Shape{2, n.B, n.H});
      dfinal.emplace_back(Shape{2, n.B, n.H});
    }
    for (int64_t b = 0; b < n.B; ++b) lengths.push_back(b % 2 ? n.T - 1 : n.T);
    for (int64_t i = 0; i < n.T * n.B; ++i) resets.push_back(i % 5 == 3);
    call.problem.T = n.T, call.problem.B = n.B;
    call.device = 0;
    call.lengths.given = call.resets.given = true;
    call.lengths.data = reinterpret_cast<char*>(lengths.data());
    call.lengths.itemsize = 8, call.lengths.kind = 'i', call.lengths.strides[0] = 8;
    call.resets.data = reinterpret_cast<char*>(resets.data());
    call.resets.strides[0] = n.B, call.resets.strides[1] = 1;
  }

  std::vector<View> views(const std::vector<Block>& blocks) const {
    std::vector<View> all;
    for (const Block& b : blocks) all.push_back(b.view);
    return all;
  }

  // (D, B, k) times (k, n) of each direction; w(d, i, j) is the element.
  template <class W> static void product(const Block& rows, int64_t D, int64_t B, int64_t k,
                                         int64_t n, W w, Block& out) {
    for (int64_t d = 0; d < D; ++d)
      for (int64_t b = 0; b < B; ++b)
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (int64_t i = 0; i < k; ++i)
            sum += double(rows.values[size_t((d * B + b) * k + i)]) * w(d, i, j);
          out.values[size_t((d * B + b) * n + j)] = float(sum);
        }
  }
  float recurrent(int64_t d, int64_t row, int64_t column) const {
    return parameters[size_t(4 * d + 1)].values[size_t(row * n.H + column)];
  }

  Results run() {
    Results results;
    const int64_t B = n.B, H = n.H, T = n.T;
    Block y({T, B, 2 * H}, false), states({S - 1, 1, 2, T, B, H}, false);
    Block saved({1, 2, T, B, V, H}, false);
    std::vector<Block> final, carry;
    for (int k = 0; k < S; ++k) {
      final.emplace_back(Shape{2, B, H}, false);
      carry.push_back(initial[size_t(k)]);
      carry.back().view.data = reinterpret_cast<char*>(carry.back().values.data());
    }
    ForwardArrays f{};
    f.begin = 0, f.end = T, f.every = 1;
    f.gates = views(gates), f.parameters = views(parameters);
    f.h = y.view, f.states = states.view, f.saved = saved.view;
    for (int k = 0; k < S; ++k) {
      f.initial[k] = initial[size_t(k)].view, f.final[k] = final[size_t(k)].view;
      f.carry[k] = carry[size_t(k)].view;
    }
    Plan plan = plan_of(stack, call, false);
    std::vector<char> meeting(size_t(meeting_bytes(plan)) + 1);
    const gpu::ForwardPass forward = forward_pass(stack, call, f);
    if (plan.mode == Mode::kGrid) {
      gpu::run(stack, plan, forward, meeting.data(), nullptr);
    } else {
      Block r({2, B, G * H});
      for (int64_t s = 0; s < T; ++s) {
        product(
            carry[0], 2, B, H, G * H,
            [&](int64_t d, int64_t i, int64_t j) { return recurrent(d, j, i); }, r);
        run_step(stack, plan, forward, s, r.view, nullptr);
      }
    }
    BackwardArrays b{};
    std::vector<Block> dgates;
    for (int d = 0; d < 2; ++d) dgates.emplace_back(Shape{T, B, P * H}, false);
    Block ds({S, 2, B, H}, false), dentry({2, B, G * H}, false), dr({2, B, G * H}, false);
    for (size_t k = 0; k < dfinal.size(); ++k)
      std::copy(dfinal[k].values.begin(), dfinal[k].values.end(),
                ds.values.begin() + std::ptrdiff_t(k * dfinal[k].values.size()));
    b.begin = 0, b.end = T;
    b.parameters = views(parameters);
    b.h = y.view, b.states = states.view, b.saved = saved.view, b.dy = dy.view;
    b.dgates = views(dgates), b.dstate = ds.view, b.dentry = dentry.view, b.dproduct = dr.view;
    for (int k = 0; k < S; ++k) b.initial[k] = initial[size_t(k)].view;
    plan = plan_of(stack, call, true);
    meeting.assign(size_t(meeting_bytes(plan)) + 1, 0);
    const gpu::BackwardPass backward = backward_pass(stack, call, b);
    if (plan.mode == Mode::kGrid) {
      gpu::run(stack, plan, backward, meeting.data(), nullptr);
    } else {
      Block dh({2, B, H});
      for (int64_t s = T - 1; s >= -1; --s) {
        run_step(stack, plan, backward, s, s + 1 < T ? dh.view : View{}, nullptr);
        product(
            dr, 2, B, G * H, H, [&](int64_t d, int64_t i, int64_t j) { return recurrent(d, i, j); },
            dh);
      }
    }
    results["y"] = y.values;
    for (int k = 0; k < S; ++k) results["final " + std::to_string(k)] = final[size_t(k)].values;
    for (int d = 0; d < 2; ++d) results["dgates " + std::to_string(d)] = dgates[size_t(d)].values;
    results["ds"] = ds.values;
    results["dentry"] = dentry.values;
    return results;
  }
};

int failures = 0;

void fail(const std::string& text) {
  std::printf("FAILED: %s\n", text.c_str());
  ++failures;
}

void compare(const std::string& what, const Results& a, const Results& b) {
  for (const auto& [name, values] : a)
    for (size_t i = 0; i < values.size(); ++i) {
      const float other = b.at(name)[i];
      if (!(std::fabs(values[i] - other) <= 2e-5f * std::max(1.0f, std::fabs(other)))) {
        fail(what + ": " + name + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) +
             ", stepwise " + std::to_string(other));
        return;
      }
    }
}

void run_all(bool quick, const std::string& only) {
  using emulation::Schedule;
  std::vector<std::string> cells;
  for (const KernelSet* set : all_kernel_sets())
    if (set->storage == Storage::kFloat && (only.empty() || only == set->cell))
      cells.push_back(set->cell);
  for (const std::string& cell : cells) {
    // 9 and 10 rows: two tiles. In backward the second shape stages the rows of both in several
    // parts, those of the smaller tile as several chunks each.
    std::vector<CaseSizes> shapes = {{4, 9, 5}};
    if (cell == "lstm") shapes.push_back({2, 10, 260});
    for (const CaseSizes& shape : shapes) {
      Case one(cell, shape);
      use_mode(Mode::kStepwise);
      const Results wanted = one.run();
      use_mode(Mode::kGrid);
      for (const Schedule schedule : {Schedule::kRandom, Schedule::kForward, Schedule::kReverse}) {
        emulation::use_schedule(schedule, 3);
        compare(cell + " H=" + std::to_string(shape.H), one.run(), wanted);
        if (quick) break;
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  emulation::use_device(18, 227 << 10, true, 1.7);
  bool list = false, quick = false;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--remove") && i + 1 < argc) emulation::remove(argv[++i]);
    if (!std::strcmp(argv[i], "--cell") && i + 1 < argc) only = argv[++i];
    if (!std::strcmp(argv[i], "--list")) list = true;
    if (!std::strcmp(argv[i], "--quick")) quick = true;
  }
  try {
    run_all(quick, only);
  } catch (const Error& e) {
    fail(e.what());
  }
  if (list)
    for (const std::string& name : emulation::executed()) std::printf("%s\n", name.c_str());
  return failures ? 1 : 0;
}
