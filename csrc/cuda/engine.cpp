#include "engine.h"

#include <atomic>

#include "../core/error.h"

namespace fastrnn {
namespace gpu {

namespace {

struct Dtype {
  const char* name;
  Storage storage;
  char kind;
  int bytes;
};
constexpr Dtype kDtypes[] = {{"float32", Storage::kFloat, 'f', 4},
                             {"float64", Storage::kDouble, 'f', 8},
                             {"float16", Storage::kHalf, 'f', 2},
                             {"bfloat16", Storage::kBfloat16, 'B', 2}};

std::atomic<Mode> chosen_mode{Mode::kBest};

// An array of a call, once it is known to be right.
struct Arrays {
  const Stack& stack;
  const Call& call;
  int64_t T, B, H, D, window;

  Arrays(const Stack& s, const Call& c, int64_t begin, int64_t end)
      : stack(s),
        call(c),
        T(c.problem.T),
        B(c.problem.B),
        H(s.spec.units),
        D(s.spec.directions),
        window(end - begin) {
    if (begin < 0 || end > T || begin > end)
      throw Error(Fault::kRuntime, spec().op, "a window must be within the steps, got another");
  }
  const Spec& spec() const { return stack.spec; }

  char* block(const char* name, const View& view, const Shape& shape, bool wide = false) const {
    check_block(spec(), name, view, shape, wide);
    check_device(spec(), {{name, &view}, {"x", &on_device_}});
    return view.data;
  }
  // The start of a block's part: part i of parts of so many elements.
  static char* part(char* base, const View& view, int64_t i, int64_t elements) {
    return base ? base + i * elements * view.itemsize : nullptr;
  }
  char* optional(const char* name, const View& view, const Shape& shape, bool wide = false) const {
    return view.given ? block(name, view, shape, wide) : nullptr;
  }
  // Rows of a sequence of this width, direction d of them.
  RowView rows(const char* name, const View& view, int64_t steps, int64_t width, bool outer,
               int64_t offset) const {
    const Problem& p = call.problem;
    const bool swapped = outer && p.batched && p.batch_first, flat = outer && !p.batched;
    const Shape shape = flat      ? Shape{steps, width}
                        : swapped ? Shape{B, steps, width}
                                  : Shape{steps, B, width};
    check_rows(spec(), name, view, shape);
    const int64_t size = view.itemsize;
    check_device(spec(), {{name, &view}, {"x", &on_device_}});
    return {view.data + offset * size, view.strides[swapped ? 1 : 0] / size,
            flat ? 0 : view.strides[swapped ? 0 : 1] / size};
  }
  // Of (parts, steps, B, width) blocks.
  RowView rows_of_part(char* base, const View& view, int64_t part_index, int64_t steps,
                       int64_t width) const {
    return {part(base, view, part_index, steps * B * width), B * width, width};
  }
  // A parameter of a pass; null for a bias that is not there.
  const void* parameter(const std::vector<View>& all, int64_t pass, int which) const {
    const int64_t each = spec().params_per_pass();
    return which < each ? all[static_cast<size_t>(pass * each + which)].data : nullptr;
  }

 private:
  View on_device_ = [this] {
    View view;
    view.given = true;
    view.device = call.device;
    return view;
  }();
};

Scan scan_of(const Call& call) {
  const Problem& p = call.problem;
  Scan scan{};
  scan.T = p.T, scan.B = p.B;
  if (call.lengths.given) {
    scan.length = call.lengths.data;
    scan.length_stride = call.lengths.strides[0];
    scan.length_bytes = static_cast<int>(call.lengths.itemsize);
    scan.length_signed = call.lengths.kind == 'i';
  }
  if (call.resets.given) {
    const bool swapped = p.batched && p.batch_first;
    scan.reset = reinterpret_cast<const uint8_t*>(call.resets.data);
    scan.reset_t = call.resets.strides[swapped ? 1 : 0];
    scan.reset_b = p.batched ? call.resets.strides[swapped ? 0 : 1] : 0;
  }
  scan.error = device_error(call.device);
  return scan;
}

// Both kinds of pass begin alike.
template <class P> P new_pass(const Arrays& a, int64_t begin, int64_t end) {
  P pass{};
  pass.scan = scan_of(a.call);
  pass.H = a.H;
  pass.directions = static_cast<int>(a.D);
  pass.begin = begin, pass.end = end;
  return pass;
}

// What both kinds have: weights, h, states, saved, and the states that come in.
template <class D, class Given>
void fill_direction(const Arrays& a, const Given& given, int64_t d, int64_t kept, D& out) {
  const Spec& spec = a.spec();
  const int64_t L = spec.layers, index = given.layer * a.D + d, BH = a.B * a.H;
  const bool unbatched = !a.call.problem.batched;
  out.reverse = d == 1;
  out.w_hh = a.parameter(given.parameters, index, 1);
  out.h = a.rows("h", given.h, a.T, a.D * a.H, given.layer + 1 == L, d * a.H);
  const Shape states = unbatched ? Shape{L * a.D, a.H} : Shape{L * a.D, a.B, a.H};
  for (int k = 0; k < spec.states; ++k)
    out.initial[k] = Arrays::part(a.optional("an initial state", given.initial[k], states, k > 0),
                                  given.initial[k], index, BH);
  if (spec.states > 1 && given.states.given) {
    const int64_t slots = given.states.rank > 1 ? given.states.shape[1] : 0;
    char* base =
        a.block("states", given.states, {spec.states - 1, slots, a.D, kept, a.B, a.H}, true);
    for (int k = 1; k < spec.states; ++k)
      out.state[k] =
          a.rows_of_part(base, given.states, ((k - 1) * slots + given.slot) * a.D + d, kept, a.H);
  }
  if (spec.saved > 0 && given.saved.given) {
    const int64_t slots = given.saved.rank > 0 ? given.saved.shape[0] : 0;
    char* base = a.block("saved", given.saved, {slots, a.D, a.window, a.B, spec.saved, a.H});
    out.saved = a.rows_of_part(base, given.saved, given.slot * a.D + d, a.window, spec.saved * a.H);
  }
  if (spec.states > 1 && given.entering.given && given.begin > 0) {
    const int64_t steps = given.entering.rank > 3 ? given.entering.shape[3] : 0;
    char* base = a.block("entering states", given.entering,
                         {spec.states - 1, L, a.D, steps, a.B, a.H}, true);
    for (int k = 1; k < spec.states; ++k)
      out.entering[k] =
          Arrays::part(base, given.entering,
                       (((k - 1) * L + given.layer) * a.D + d) * steps + given.entering_place, BH);
  }
}

}  // namespace

Stack make_stack(const std::string& cell, const std::string& dtype, int64_t layers,
                 int64_t directions, int64_t inputs, int64_t units, bool bias) {
  for (const Dtype& each : kDtypes) {
    if (dtype != each.name) continue;
    const KernelSet& kernels = find_kernels(cell, each.storage);
    Stack stack{{cell, each.bytes, layers, directions, inputs, units, bias, kernels.gates,
                 kernels.states, kernels.saved, each.kind},
                &kernels};
    check_spec(stack.spec);
    return stack;
  }
  throw Error(Fault::kType, cell,
              "dtype must be float32, float64, float16 or bfloat16, got " + dtype);
}

ForwardPass forward_pass(const Stack& stack, const Call& call, const ForwardArrays& given) {
  const Arrays a(stack, call, given.begin, given.end);
  const Spec& spec = stack.spec;
  const int64_t GH = spec.gates * a.H, BH = a.B * a.H;
  auto pass = new_pass<ForwardPass>(a, given.begin, given.end);
  pass.state_every = given.every;
  pass.recompute = given.remake;
  const int64_t kept = given.every > 1 ? call.problem.kept_steps() : a.window;
  const bool unbatched = !call.problem.batched;
  const int64_t all = spec.layers * a.D;
  const Shape states = unbatched ? Shape{all, a.H} : Shape{all, a.B, a.H};
  for (int64_t d = 0; d < a.D; ++d) {
    ForwardDirection& out = pass.direction[d];
    fill_direction(a, given, d, kept, out);
    const int64_t index = given.layer * a.D + d;
    out.b_ih = a.parameter(given.parameters, index, 2);
    out.b_hh = a.parameter(given.parameters, index, 3);
    out.x = a.rows("gates", given.gates[static_cast<size_t>(d)], a.window, GH, given.layer == 0, 0);
    for (int k = 0; k < spec.states; ++k) {
      out.final[k] = Arrays::part(a.optional("a final state", given.final[k], states, k > 0),
                                  given.final[k], index, BH);
      out.carry[k] = Arrays::part(a.optional("a carry", given.carry[k], {a.D, a.B, a.H}, k > 0),
                                  given.carry[k], d, BH);
    }
  }
  return pass;
}

BackwardPass backward_pass(const Stack& stack, const Call& call, const BackwardArrays& given) {
  const Arrays a(stack, call, given.begin, given.end);
  const Spec& spec = stack.spec;
  const int64_t GH = spec.gates * a.H, BH = a.B * a.H, PH = stack.kernels->planes * a.H;
  auto pass = new_pass<BackwardPass>(a, given.begin, given.end);
  char* dstate = a.block("dstate", given.dstate, {spec.states, a.D, a.B, a.H}, true);
  char* dentry = a.optional("dentry", given.dentry, {a.D, a.B, GH});
  char* dproduct = a.optional("dproduct", given.dproduct, {a.D, a.B, GH});
  for (int64_t d = 0; d < a.D; ++d) {
    BackwardDirection& out = pass.direction[d];
    fill_direction(a, given, d, a.window, out);
    out.dy = a.rows("dy", given.dy, a.T, a.D * a.H, given.layer + 1 == spec.layers, d * a.H);
    out.dgates = a.rows("dgates", given.dgates[static_cast<size_t>(d)], a.window, PH, false, 0);
    for (int k = 0; k < spec.states; ++k)
      out.dstate[k] = Arrays::part(dstate, given.dstate, k * a.D + d, BH);
    out.dentry = Arrays::part(dentry, given.dentry, d, a.B * GH);
    out.dproduct = Arrays::part(dproduct, given.dproduct, d, a.B * GH);
  }
  return pass;
}

Mode mode_in_use() { return chosen_mode; }
void use_mode(Mode mode) { chosen_mode = mode; }

Plan plan_of(const Stack& stack, const Call& call, bool backward) {
  return plan_of(stack, call.problem.T, call.problem.B, call.device, backward);
}

Plan plan_of(const Stack& stack, int64_t T, int64_t B, int index, bool backward) {
  const Sizes sizes{T, B, stack.spec.units, static_cast<int>(stack.spec.directions)};
  const OnDevice here(stack.spec.op, index);
  return plan_pass(stack.spec.op, *stack.kernels, device(index), sizes, backward, mode_in_use());
}

int64_t meeting_bytes(const Plan& plan) {
  if (plan.mode != Mode::kGrid) return 0;
  const int groups = plan.blocks / plan.grid.blocks_per_group;
  return int64_t{4} * groups * kCounterStride;
}

namespace {

void raise_abandoned(const std::string& op, const DeviceError* report) {
  const char* name = __atomic_load_n(&report->abandoned, __ATOMIC_ACQUIRE);
  if (!name) return;
  throw Error(Fault::kRuntime, op,
              std::string("the blocks of a kernel must all come to a meeting, got ") + name +
                  ", where some did not: it has ended itself, and with it this process's CUDA "
                  "context, which only a new process can replace");
}

// Calls of CUDA that fail after a kernel has ended itself fail because of it.
template <class F> void with_reason(const std::string& op, const DeviceError* report, F calls) {
  try {
    calls();
  } catch (const Error&) {
    raise_abandoned(op, report);
    throw;
  }
}

template <class P> void run_grid(const Stack& stack, const Plan& plan, P& pass, void (*kernel)(P),
                                 const char* name, void* meeting, void* stream) {
  const std::string& op = stack.spec.op;
  pass.grid = plan.grid;
  pass.grid.counters = static_cast<unsigned*>(meeting);
  pass.grid.name = name;
  with_reason(op, pass.scan.error, [&] {
    zero(op, meeting, meeting_bytes(plan), stream);
    launch(op, {plan.blocks, plan.threads, plan.shared, true, stream}, kernel, pass);
  });
}

template <class P> void run_one_step(const Stack& stack, const Plan& plan, P& pass,
                                     void (*kernel)(P, int64_t), int64_t s, const View& product,
                                     int64_t width, void* stream) {
  const int64_t D = stack.spec.directions, B = pass.scan.B;
  if (product.given) check_block(stack.spec, "the product of a step", product, {D, B, width});
  for (int64_t d = 0; d < D; ++d)
    pass.direction[d].product =
        product.given ? product.data + d * B * width * product.itemsize : nullptr;
  const std::string& op = stack.spec.op;
  with_reason(op, pass.scan.error,
              [&] { launch(op, {plan.blocks, plan.threads, 0, false, stream}, kernel, pass, s); });
}

}  // namespace

void run(const Stack& stack, const Plan& plan, ForwardPass pass, void* meeting, void* stream) {
  const KernelSet& kernels = *stack.kernels;
  run_grid(stack, plan, pass, kernels.grid_forward, kernels.grid_forward_name, meeting, stream);
}
void run(const Stack& stack, const Plan& plan, BackwardPass pass, void* meeting, void* stream) {
  const KernelSet& kernels = *stack.kernels;
  run_grid(stack, plan, pass, kernels.grid_backward, kernels.grid_backward_name, meeting, stream);
}
void run_step(const Stack& stack, const Plan& plan, ForwardPass pass, int64_t s,
              const View& product, void* stream) {
  run_one_step(stack, plan, pass, stack.kernels->step_forward, s, product,
               stack.spec.gates * stack.spec.units, stream);
}
void run_step(const Stack& stack, const Plan& plan, BackwardPass pass, int64_t s,
              const View& product, void* stream) {
  run_one_step(stack, plan, pass, stack.kernels->step_backward, s, product, stack.spec.units,
               stream);
}

void raise_reports(const std::string& op, int index) {
  DeviceError* report = device_error(index);
  raise_abandoned(op, report);
  // -1 while a kernel writes the rest: then the next call tells.
  if (__atomic_load_n(&report->code, __ATOMIC_ACQUIRE) != kLengthOutside) return;
  const std::string got =
      std::to_string(report->value) + " for row " + std::to_string(report->row) +
      " (found by a kernel; that call's results " + "are of the nearest length)";
  __atomic_store_n(&report->code, kNoError, __ATOMIC_RELEASE);
  throw Error(Fault::kValue, op, "lengths must be within 0..T, got " + got);
}

void synchronize_and_raise(const std::string& op, int index, void* stream) {
  const OnDevice here(op, index);
  with_reason(op, device_error(index), [&] { synchronize(op, stream); });
  raise_reports(op, index);
}

}  // namespace gpu
}  // namespace fastrnn
