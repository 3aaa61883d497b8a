// The host's side of the stepwise mode (stepwise.cuh, phases.cuh): the library's product and one
// launch for each step, or two of each. A product is the same call on the same memory at every
// step, so it is prepared once, and where there are steps enough and the library allows it,
// recorded: then a graph of some steps is replayed, without a call of the library's.
#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "../core/problem.h"
#include "costs.h"
#include "graph.h"
#include "layout.h"
#include "mode.h"

namespace fastrnn {
namespace gpu {

namespace {

// A product of a step: with so many rows of weights, from one on, of so many columns.
struct StepProduct {
  int64_t rows, depth, first_row;
};

// Steps that a graph has, at most: replays are few, and so is what is made for them.
constexpr int64_t kStepsOfGraph = 32;
// Steps that a graph is quicker for than launches one by one, at least: both are work of the host,
// alike for all devices.
constexpr double kFewestSteps = kCosts->graph / kCosts->issue;

// The steps of a window. Forward each product of a step comes before its kernel; going back, where
// the last one is the first, after it.
template <class P> class Steps {
 public:
  using Kernel = void (*)(P, int64_t);
  using AllProducts = std::vector<std::unique_ptr<Repeated>>;

  Steps(const Site& site, const P& pass, const Kernel* kernels, const AllProducts& products)
      : site_(site), pass_(pass), kernels_(kernels), products_(products) {}

  // One kernel alone.
  void launch_one(size_t i, int64_t s) const {
    const Plan& plan = site_.plan;
    with_reason(op(), pass_.scan.error, [&] {
      launch(op(), {plan.blocks, plan.threads, 0, false, site_.stream}, kernels_[i], pass_, s);
    });
  }

  void run() const {
    if (is_for_a_graph() && replay_all()) return;
    for (int64_t k = 0; k < count(); ++k)
      for_parts([&](size_t i) { products_[i]->run(); },
                [&](size_t i) { launch_one(i, scan_step(k)); });
  }

 private:
  const Site& site_;
  const P& pass_;
  const Kernel* kernels_;
  const AllProducts& products_;
  static constexpr bool kBack = std::is_same<P, BackwardPass>::value;

  const std::string& op() const { return site_.stack.spec.op; }
  int64_t count() const { return pass_.end - pass_.begin; }
  int64_t scan_step(int64_t k) const { return kBack ? pass_.end - 1 - k : pass_.begin + k; }

  bool is_for_a_graph() const {
    constexpr int64_t kMost = INT32_MAX / 2;  // that `advance` counts to
    return site_.library.can_be_recorded() &&
           count()<kMost&& static_cast<double>(count())> kFewestSteps;
  }

  // One step: calls make(i) for each product and finish(i) for its kernel, in their order.
  template <class Make, class Finish> void for_parts(Make make, Finish finish) const {
    const size_t n = products_.size();
    for (size_t j = 0; j < n; ++j) {
      const size_t i = kBack ? n - 1 - j : j;
      if (!kBack) make(i);
      finish(i);
      if (kBack) make(i);
    }
  }

  // All steps from a graph of some of them. False where the products cannot be recorded.
  bool replay_all() const {
    std::vector<std::unique_ptr<Recording>> recordings;
    for (const auto& product : products_) {
      recordings.push_back(
          record(op(), site_.stream, [&](void* stream) { product->run_on(stream); }));
      if (!recordings.back()) return false;
    }
    const int64_t replays = ceil_div(count(), kStepsOfGraph);
    site_.library.let_others_go_on([&] {
      with_reason(op(), pass_.scan.error, [&] {
        zero(op(), counter(), sizeof *counter(), site_.stream);
        const auto graph = graph_of(ceil_div(count(), replays), recordings);
        for (int64_t r = 0; r < replays; ++r) graph->replay(site_.stream);
      });
    });
    return true;
  }

  // The first steps of the window, and what counts them at the end, so that the next replay makes
  // those that follow. In the last one there may be more than the window has: their kernels do
  // nothing, and their products write again what they have written.
  std::unique_ptr<Graph> graph_of(int64_t steps,
                                  const std::vector<std::unique_ptr<Recording>>& products) const {
    P pass = pass_;
    pass.replayed = counter();
    auto graph = new_graph(op());
    for (int64_t k = 0; k < steps; ++k)
      for_parts([&](size_t i) { graph->add(*products[i]); },
                [&](size_t i) {
                  graph->add(site_.plan.blocks, site_.plan.threads, kernels_[i], pass,
                             scan_step(k));
                });
    const int by = static_cast<int>(kBack ? -steps : steps);
    graph->add(1, kLanes, row_kernels[static_cast<int>(site_.stack.kernels->storage)].advance,
               counter(), by);
    return graph;
  }

  int32_t* counter() const { return reinterpret_cast<int32_t*>(site_.memory.back().data); }
};

class StepwiseMode : public Mode {
 public:
  const char* name() const override { return "stepwise"; }

  Plan plan(const Work& w) const override {
    Plan plan;
    plan.mode = this;
    const int64_t units = w.directions * w.B * w.H;
    plan.threads = static_cast<int>(
        std::clamp<int64_t>(ceil_div(units, kLanes) * kLanes, kLanes, kMaxThreads));
    // As for_values has them: rows of a block, and pieces of a row.
    const int64_t columns = std::min<int64_t>(w.H, plan.threads), rows = plan.threads / columns;
    const int64_t blocks = ceil_div(w.directions * w.B, rows) * ceil_div(w.H, columns);
    plan.blocks = static_cast<int>(std::clamp<int64_t>(blocks, 1, 32 * w.device.processors));
    plan.microseconds = microseconds_of(w);
    return plan;
  }

  // For each product of a step what it gives, or going back takes, and the vector on its other
  // side; forward also each state beside h that a step hands to the next; last, what counts the
  // steps of replays.
  std::vector<Request> memory(const Work& w, const Plan&) const override {
    const int64_t D = w.directions;
    std::vector<Request> all;
    for (const StepProduct& p : products_of(w.kernels, w.H, w.P)) {
      all.push_back({{D * w.B, p.rows}, Elements::kStorage});
      all.push_back({{D * w.B, p.depth}, Elements::kStorage});
    }
    for (int k = 1; k < w.kernels.states && !w.backward; ++k)
      all.push_back({{D * w.B, w.H}, Elements::kAccumulator});
    all.push_back({{1}, Elements::kInt32});
    return all;
  }

  void run(const Site& site, ForwardPass pass) const override {
    const std::vector<StepProduct> steps = products_of(site);
    for (int d = 0; d < pass.directions; ++d) {
      ForwardDirection& direction = pass.direction[d];
      for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
        direction.product[i] = part(site, sums(i), d);
        direction.factor[i] = part(site, factor(i), d);
      }
      for (int k = 1; k < site.stack.spec.states; ++k)
        direction.carry[k] = part(site, factor(static_cast<int>(steps.size()) - 1) + k, d);
    }
    const auto products = prepare(site, steps, false);
    const Steps<ForwardPass> all(site, pass, site.stack.kernels->step_forward, products);
    all.launch_one(0, pass.begin - 1);
    all.run();
  }

  void run(const Site& site, BackwardPass pass) const override {
    const std::vector<StepProduct> steps = products_of(site);
    for (int d = 0; d < pass.directions; ++d)
      for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
        pass.direction[d].dproduct[i] = part(site, sums(i), d);
        pass.direction[d].product[i] = part(site, factor(i), d);
      }
    const auto products = prepare(site, steps, true);
    const Steps<BackwardPass> all(site, pass, site.stack.kernels->step_backward, products);
    all.run();
    all.launch_one(steps.size() - 1, pass.begin - 1);
  }

 private:
  // Places in memory(): what product i of a step gives, and what it multiplies.
  static int sums(int i) { return 2 * i; }
  static int factor(int i) { return 2 * i + 1; }

  static const View& memory_of(const Site& site, int place) {
    return site.memory[static_cast<size_t>(place)];
  }
  // A direction's rows of an array that a scan takes for itself.
  static char* part(const Site& site, int place, int d) {
    const View& view = memory_of(site, place);
    return view.data + d * site.B * view.shape[1] * view.itemsize;
  }
  static Operand rows(const Site& site, int place, int d) {
    const int64_t width = memory_of(site, place).shape[1];
    return {site.first_array + place, d * site.B, site.B, 0, width};
  }

  static std::vector<StepProduct> products_of(const KernelSet& kernels, int64_t H, int64_t P) {
    const int64_t of_v = kernels.second_gates * H, of_h = kernels.gates * H - of_v;
    std::vector<StepProduct> all = {{of_h, P, 0}};
    if (kernels.products() > 1)
      all.push_back(of_v ? StepProduct{of_v, H, of_h} : StepProduct{P, H, 0});
    return all;
  }
  static std::vector<StepProduct> products_of(const Site& site) {
    const Spec& spec = site.stack.spec;
    return products_of(*site.stack.kernels, spec.units, spec.outputs());
  }

  // Each product for all directions, or the one that goes back through it.
  static std::vector<std::unique_ptr<Repeated>> prepare(const Site& site,
                                                        const std::vector<StepProduct>& steps,
                                                        bool back) {
    std::vector<std::unique_ptr<Repeated>> all;
    for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
      const StepProduct& step = steps[static_cast<size_t>(i)];
      Products products;
      for (int d = 0; d < static_cast<int>(site.stack.spec.directions); ++d) {
        const Operand weights{site.weights[i][static_cast<size_t>(d)], step.first_row, step.rows, 0,
                              step.depth};
        const Operand made = rows(site, sums(i), d), by = rows(site, factor(i), d);
        products.push_back({back ? by : made, back ? made : by, weights, false, !back, false});
      }
      all.push_back(site.library.prepare(products));
    }
    return all;
  }

  static double microseconds_of(const Work& w) {
    const Costs& costs = costs_of(w.device);
    const double sms = w.device.processors;
    const double rate = w.kernels.element_bytes == 2 ? costs.library_fused_16 : costs.library_fused;
    double issued = 0, run = 0;  // by the thread of Python, and by the device
    for (const StepProduct& step : products_of(w.kernels, w.H, w.P)) {
      const double weights = static_cast<double>(w.directions) * static_cast<double>(step.depth) *
                             static_cast<double>(step.rows);
      const double product =
          std::max(w.microseconds(weights * static_cast<double>(w.B), rate * sms),
                   w.microseconds(weights * w.kernels.element_bytes, costs.streamed_bytes * sms));
      issued += costs.issue * w.directions;
      run += (w.directions + 1) * costs.launch + product;
    }
    const auto steps = static_cast<double>(w.T);
    const bool replayed = w.can_be_recorded && steps > kFewestSteps;
    return replayed ? run + costs.graph / steps : std::max(issued, run);
  }
};

}  // namespace

const Mode& stepwise_mode() {
  static const StepwiseMode mode;
  return mode;
}

}  // namespace gpu
}  // namespace fastrnn
