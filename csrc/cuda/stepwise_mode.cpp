// The host's side of the stepwise mode (stepwise.cuh, phases.cuh): the library's product and one
// launch for each step, or two of each. A product is the same call on the same memory at every
// step, so it is prepared once.
#include <algorithm>
#include <memory>
#include <vector>

#include "../core/problem.h"
#include "costs.h"
#include "layout.h"
#include "mode.h"

namespace fastrnn {
namespace gpu {

namespace {

// A product of a step: with so many rows of weights, from one on, of so many columns.
struct StepProduct {
  int64_t rows, depth, first_row;
};

template <class P>
void launch_step(const Site& site, const P& pass, void (*kernel)(P, int64_t), int64_t s) {
  const std::string& op = site.stack.spec.op;
  const Plan& plan = site.plan;
  with_reason(op, pass.scan.error, [&] {
    launch(op, {plan.blocks, plan.threads, 0, false, site.stream}, kernel, pass, s);
  });
}

class StepwiseMode : public Mode {
 public:
  const char* name() const override { return "stepwise"; }

  Plan plan(const Work& w) const override {
    Plan plan;
    plan.mode = this;
    const int64_t units = w.directions * w.B * w.H;
    plan.threads = static_cast<int>(
        std::clamp<int64_t>(ceil_div(units, kLanes) * kLanes, kLanes, kMaxThreads));
    plan.blocks = static_cast<int>(
        std::clamp<int64_t>(ceil_div(units, plan.threads), 1, 32 * w.device.processors));
    plan.microseconds = microseconds_of(w);
    return plan;
  }

  // For each product of a step what it gives, or going back takes, and the vector on its other
  // side; forward also each state beside h that a step hands to the next.
  std::vector<Request> memory(const Work& w, const Plan&) const override {
    const int64_t D = w.directions;
    std::vector<Request> all;
    for (const StepProduct& p : products_of(w.kernels, w.H, w.P)) {
      all.push_back({{D * w.B, p.rows}, Elements::kStorage});
      all.push_back({{D * w.B, p.depth}, Elements::kStorage});
    }
    for (int k = 1; k < w.kernels.states && !w.backward; ++k)
      all.push_back({{D * w.B, w.H}, Elements::kAccumulator});
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
    const auto& kernels = site.stack.kernels->step_forward;
    launch_step(site, pass, kernels[0], pass.begin - 1);
    for (int64_t s = pass.begin; s < pass.end; ++s)
      for (size_t i = 0; i < steps.size(); ++i) {
        products[i]->run();
        launch_step(site, pass, kernels[i], s);
      }
  }

  void run(const Site& site, BackwardPass pass) const override {
    const std::vector<StepProduct> steps = products_of(site);
    for (int d = 0; d < pass.directions; ++d)
      for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
        pass.direction[d].dproduct[i] = part(site, sums(i), d);
        pass.direction[d].product[i] = part(site, factor(i), d);
      }
    const auto products = prepare(site, steps, true);
    const auto& kernels = site.stack.kernels->step_backward;
    for (int64_t s = pass.end - 1; s >= pass.begin; --s)
      for (size_t i = steps.size(); i-- > 0;) {
        launch_step(site, pass, kernels[i], s);
        products[i]->run();
      }
    launch_step(site, pass, kernels[steps.size() - 1], pass.begin - 1);
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
    const double sms = w.device.processors;
    const double rate =
        w.kernels.element_bytes == 2 ? kCosts.library_fused_16 : kCosts.library_fused;
    double issued = 0, run = 0;
    for (const StepProduct& step : products_of(w.kernels, w.H, w.P)) {
      const double weights = static_cast<double>(w.directions) * static_cast<double>(step.depth) *
                             static_cast<double>(step.rows);
      const double product =
          std::max(w.microseconds(weights * static_cast<double>(w.B), rate * sms),
                   w.microseconds(weights * w.kernels.element_bytes, kCosts.streamed_bytes * sms));
      issued += kCosts.issue * w.directions;
      run += 2 * kCosts.launch + product;
    }
    return std::max(issued, run);
  }
};

}  // namespace

const Mode& stepwise_mode() {
  static const StepwiseMode mode;
  return mode;
}

}  // namespace gpu
}  // namespace fastrnn
