// The host's side of the stepwise mode (stepwise.cuh): the library's product and one launch for
// each step. The product is the same call on the same memory at every step, so it is prepared once.
#include <algorithm>

#include "../core/problem.h"
#include "costs.h"
#include "layout.h"
#include "mode.h"

namespace fastrnn {
namespace gpu {

namespace {

// A part for each direction of an array that a scan takes for itself.
char* part_of(const View& view, int64_t part, int64_t elements) {
  return view.data + part * elements * view.itemsize;
}

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

  // Forward: the product R h, and each state that a step hands to the next; h of them first.
  // Backward: the gradient of R h, and R's product with it.
  std::vector<Request> memory(const Work& w, const Plan&) const override {
    const int64_t D = w.directions, GH = w.kernels.gates * w.H;
    std::vector<Request> all = {{{D * w.B, GH}, Elements::kStorage},
                                {{D * w.B, w.H}, Elements::kStorage}};
    for (int k = 1; k < w.kernels.states && !w.backward; ++k)
      all.push_back({{D * w.B, w.H}, Elements::kAccumulator});
    return all;
  }

  void run(const Site& site, ForwardPass pass) const override {
    const int64_t H = pass.H, BH = site.B * H, GH = site.stack.spec.gates * H;
    Products products;
    for (int d = 0; d < pass.directions; ++d) {
      ForwardDirection& direction = pass.direction[d];
      direction.product = part_of(site.memory[kProduct], d, site.B * GH);
      for (int k = 0; k < site.stack.spec.states; ++k)
        direction.carry[k] = part_of(site.memory[static_cast<size_t>(kState + k)], d, BH);
      products.push_back({rows(site, kProduct, d, GH), rows(site, kState, d, H), weights(site, d),
                          false, true, false});
    }
    const auto product = site.library.prepare(products);
    const auto kernel = site.stack.kernels->step_forward;
    launch_step(site, pass, kernel, pass.begin - 1);
    for (int64_t s = pass.begin; s < pass.end; ++s) {
      product->run();
      launch_step(site, pass, kernel, s);
    }
  }

  void run(const Site& site, BackwardPass pass) const override {
    const int64_t H = pass.H, GH = site.stack.spec.gates * H;
    Products products;
    for (int d = 0; d < pass.directions; ++d) {
      BackwardDirection& direction = pass.direction[d];
      direction.dproduct = part_of(site.memory[kProduct], d, site.B * GH);
      direction.product = part_of(site.memory[kState], d, site.B * H);
      products.push_back({rows(site, kState, d, H), rows(site, kProduct, d, GH), weights(site, d),
                          false, false, false});
    }
    const auto product = site.library.prepare(products);
    const auto kernel = site.stack.kernels->step_backward;
    for (int64_t s = pass.end - 1; s >= pass.begin; --s) {
      launch_step(site, pass, kernel, s);
      product->run();
    }
    launch_step(site, pass, kernel, pass.begin - 1);
  }

 private:
  // Places in memory().
  static constexpr int kProduct = 0, kState = 1;

  static Operand rows(const Site& site, int which, int d, int64_t width) {
    return {site.first_array + which, d * site.B, site.B, 0, width};
  }

  static Operand weights(const Site& site, int d) {
    const Spec& spec = site.stack.spec;
    return {site.w_hh[static_cast<size_t>(d)], 0, spec.gates * spec.units, 0, spec.units};
  }

  static double microseconds_of(const Work& w) {
    const double weights = static_cast<double>(w.directions) * static_cast<double>(w.H) *
                           static_cast<double>(w.H) * w.kernels.gates;
    const double sms = w.device.processors;
    const double rate =
        w.kernels.element_bytes == 2 ? kCosts.library_fused_16 : kCosts.library_fused;
    const double product =
        std::max(w.microseconds(weights * static_cast<double>(w.B), rate * sms),
                 w.microseconds(weights * w.kernels.element_bytes, kCosts.streamed_bytes * sms));
    return std::max(kCosts.issue * w.directions, 2 * kCosts.launch + product);
  }
};

}  // namespace

const Mode& stepwise_mode() {
  static const StepwiseMode mode;
  return mode;
}

}  // namespace gpu
}  // namespace fastrnn
