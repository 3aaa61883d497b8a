#include "executor.h"

#include <algorithm>

#include "../core/error.h"
#include "../core/planes.h"
#include "layout.h"

namespace fastrnn {
namespace gpu {

namespace {

// Steps that backward recomputes at once, at least: enough for the library's products to be large.
constexpr int64_t kWindow = 64;
constexpr int64_t kMaxBlocks = 1024;  // of a kernel whose threads take a row each

Work work_of(const Stack& stack, int64_t T, int64_t B, int index, bool backward,
             bool can_be_recorded) {
  const Spec& spec = stack.spec;
  const int directions = static_cast<int>(spec.directions);
  return {spec.op,  *stack.kernels, device(index),  T, B, spec.units, spec.outputs(), directions,
          backward, tf32_in_use(),  can_be_recorded};
}

// Scans of one kind: their plan, and the memory that its mode has asked for.
struct Scans {
  Plan plan;
  std::vector<View> memory;
  int first_array = 0;
};

class Executor {
 public:
  Executor(const Stack& stack, const Call& call, const Problem& problem, const Numbers& numbers,
           Library& library, void* stream)
      : stack_(stack),
        call_(call),
        p_(problem),
        numbers_(numbers),
        library_(library),
        stream_(stream),
        program_(lower(stack.spec, problem, call, lowering(stack.spec, problem))) {}

  void run() {
    const std::vector<View> scratch = allocate();
    const bool wide = rounds_gradients();
    if (wide) widen_gradients();
    Arrays arrays(stack_, call_, p_, program_, numbers_, scratch, first_scratch_);
    arrays_ = &arrays;
    if (before_.given) lay_out_steps(arrays);
    for (const Op& op : program_.ops) std::visit([this](const auto& o) { execute(o); }, op);
    flush();
    if (wide) round_gradients();
  }

 private:
  const Stack& stack_;
  const Call& call_;
  const Problem& p_;
  Numbers numbers_;
  Library& library_;
  void* stream_;
  Program program_;
  Scans scans_[2];  // forward, backward
  View dstate_, before_;
  int first_scratch_ = 0, narrow_gradients_ = 0;
  const Arrays* arrays_ = nullptr;
  Products products_;  // that wait for the next op that is none
  ColumnSums sums_;

  static Lowering lowering(const Spec& spec, const Problem& p) {
    const int64_t all = std::max<int64_t>(1, p.T);
    return {true, p.T, recomputes(spec, p) ? window_steps(p, kWindow) : all};
  }

  const RowKernels& row_kernels() const {
    return gpu::row_kernels[static_cast<int>(stack_.kernels->storage)];
  }

  template <class O> bool has() const {
    return std::any_of(program_.ops.begin(), program_.ops.end(),
                       [](const Op& op) { return std::holds_alternative<O>(op); });
  }

  // Plans the scans of one kind; what their mode needs.
  std::vector<Request> plan(bool back) {
    const Work work = work_of(stack_, p_.T, p_.B, call_.x.device, back, library_.can_be_recorded());
    scans_[back].plan = plan_pass(work);
    return scans_[back].plan.mode->memory(work, scans_[back].plan);
  }

  // All that the program and the modes need, in one call of the library.
  std::vector<View> allocate() {
    std::vector<Request> requests;
    for (const Buffer& b : program_.buffers)
      if (b.scratch)
        requests.push_back({b.shape, b.accumulator ? Elements::kAccumulator : Elements::kStorage});
    const size_t scratch = requests.size();
    size_t begins[3];
    const bool wanted[2] = {has<Scan>(), has<ScanBackward>()};
    for (const int back : {0, 1}) {
      begins[back] = requests.size();
      if (!wanted[back]) continue;
      for (const Request& request : plan(back)) requests.push_back(request);
    }
    begins[2] = requests.size();
    const Spec& spec = stack_.spec;
    if (wanted[1])
      requests.push_back(
          {{spec.states, spec.directions, p_.B, spec.widest_state()}, Elements::kAccumulator});
    const bool held = call_.holds.given && !program_.ops.empty();
    if (held) requests.push_back(before_request());
    if (requests.empty()) return {};
    std::vector<View> made = library_.allocate(requests, &first_scratch_);
    if (held) before_ = made.back(), made.pop_back();
    const auto begin = made.begin();
    for (const int back : {0, 1}) {
      scans_[back].memory.assign(begin + static_cast<std::ptrdiff_t>(begins[back]),
                                 begin + static_cast<std::ptrdiff_t>(begins[back + 1]));
      scans_[back].first_array = first_scratch_ + static_cast<int>(begins[back]);
    }
    if (wanted[1]) dstate_ = made.back();
    made.resize(scratch);
    return made;
  }

  // Gradients of parameters in 16 bits that several windows add to are sums in the accumulator type
  // meanwhile, and rounded once.
  bool rounds_gradients() const {
    const auto adds = [](const Op& op) {
      const auto* scan = std::get_if<ScanBackward>(&op);
      return scan && !scan->first;
    };
    return stack_.spec.element_bytes < stack_.spec.accumulator_bytes() &&
           !call_.dparameters.empty() &&
           std::any_of(program_.ops.begin(), program_.ops.end(), adds);
  }
  int& gradients() { return numbers_.first[static_cast<int>(Role::kParameterGradient)]; }
  void widen_gradients() {
    std::vector<Request> requests;
    for (const Parameter& p : parameters_of(stack_.spec))
      requests.push_back({p.shape, Elements::kAccumulator});
    narrow_gradients_ = gradients();
    library_.allocate(requests, &gradients());
  }
  void round_gradients() {
    library_.round(gradients(), narrow_gradients_, static_cast<int>(call_.dparameters.size()));
  }

  // What each step of rows that are held goes on from, and what the final state comes from.
  Request before_request() const {
    if (p_.T >= INT32_MAX)
      throw Error(Fault::kNotImplemented, stack_.spec.op,
                  "a call with holds must have less than 2^31 steps, got " + std::to_string(p_.T));
    return {{stack_.spec.directions, p_.T + 1, p_.B}, Elements::kInt32};
  }
  void lay_out_steps(Arrays& arrays) {
    LayOutPass pass{};
    pass.scan = arrays.steps();
    pass.directions = stack_.spec.directions;
    for (int64_t d = 0; d < pass.directions; ++d) pass.reverse[d] = call_.is_reversed(d);
    pass.before = reinterpret_cast<int32_t*>(before_.data);
    arrays.set_before(before_);
    const int64_t rows = pass.directions * p_.B;
    const int blocks = static_cast<int>(std::clamp<int64_t>(ceil_div(rows, kLanes), 1, kMaxBlocks));
    with_reason(stack_.spec.op, pass.scan.error, [&] {
      launch(stack_.spec.op, {blocks, kLanes, 0, false, stream_}, row_kernels().lay_out_steps,
             pass);
    });
  }

  void flush() {
    if (products_.empty() && sums_.empty()) return;
    library_.multiply(products_, sums_);
    products_.clear(), sums_.clear();
  }

  void execute(const Gemm& g) {
    products_.push_back({arrays_->operand(g.c), arrays_->operand(g.a), arrays_->operand(g.b),
                         g.transpose_a, g.transpose_b, g.accumulate});
  }

  void execute(const Copy& c) {
    flush();
    const std::string& op = stack_.spec.op;
    const DeviceError* error = device_error(call_.x.device);
    if (c.rule == CopyRule::kWhole) {
      const int64_t bytes = arrays_->bytes(c.to);
      if (bytes == 0) return;
      with_reason(op, error, [&] {
        if (c.from == kNoBuffer)
          zero(op, arrays_->data(c.to), bytes, stream_);
        else
          copy(op, arrays_->data(c.to), arrays_->data(c.from), bytes, stream_);
      });
      return;
    }
    const int64_t warps = kMaxThreads / kLanes, rows = (c.end - c.begin) * p_.B;
    const int64_t max_blocks = 32 * device(call_.x.device).processors;
    const int blocks = static_cast<int>(std::clamp<int64_t>(ceil_div(rows, warps), 1, max_blocks));
    with_reason(op, error, [&] {
      launch(op, {blocks, kMaxThreads, 0, false, stream_}, row_kernels().copy_rows,
             arrays_->copy(c));
    });
  }

  void execute(const Scan& scan) {
    flush();
    run(false, scan, arrays_->forward(scan));
  }

  void execute(const ScanBackward& scan) {
    flush();
    run(true, scan, arrays_->backward(scan, dstate_));
    if (!call_.dparameters.empty()) add_sums(scan);
  }

  // Where the device refuses a plan's blocks, by the next plan, which has memory of its own.
  template <class P> void run(bool back, const Recurrence& r, const P& pass) {
    Scans& scans = scans_[back];
    try {
      scans.plan.mode->run(site(scans, r), pass);
    } catch (const TooManyBlocks&) {
      refuse_blocks(device(call_.x.device), scans.plan.blocks);
      scans.memory = library_.allocate(plan(back), &scans.first_array);
      run(back, r, pass);
    }
  }

  // The gradients that are sums over planes of dgates: of biases, split gates' r parts for b_hh,
  // and of the parameters of a unit.
  void add_sums(const ScanBackward& scan) {
    const Spec& spec = stack_.spec;
    const int64_t H = spec.units;
    for (int d = 0; d < spec.directions; ++d) {
      const auto add = [&](int kind, int gate, int plane, int count) {
        if (!spec.has(kind)) return;
        const Matrix of{scan.dgates[d], 0, (scan.end - scan.begin) * p_.B, plane * H, count * H};
        const int64_t parameter = spec.parameter(scan.layer, d, kind);
        sums_.push_back({numbers_.of(Role::kParameterGradient, parameter), gate * H,
                         arrays_->operand(of), !scan.first});
      };
      const int gates = static_cast<int>(spec.gates);
      add(kBiasIh, 0, 0, gates);
      for_recurrent_planes(gates, spec.split_gates, [&](int gate, int plane, int count) {
        add(kBiasHh, gate, plane, count);
      });
      add(kWeightDiag, 0, plane_count(gates, spec.split_gates),
          static_cast<int>(spec.unit_parameters));
    }
  }

  Site site(const Scans& scans, const Recurrence& r) const {
    Site site{stack_, scans.plan, library_, stream_, p_.B, scans.memory, scans.first_array, {}};
    const int kinds[kMaxProducts] = {kWeightHh, stack_.spec.projection ? kWeightHr : kWeightHh};
    for (int i = 0; i < stack_.kernels->products(); ++i)
      for (int64_t d = 0; d < stack_.spec.directions; ++d)
        site.weights[i].push_back(
            numbers_.of(Role::kParameter, stack_.spec.parameter(r.layer, d, kinds[i])));
    return site;
  }
};

}  // namespace

void execute(const Stack& stack, const Call& call, const Problem& problem, const Numbers& numbers,
             Library& library, void* stream) {
  Executor(stack, call, problem, numbers, library, stream).run();
}

Plan plan_of(const Stack& stack, int64_t T, int64_t B, int index, bool backward,
             bool can_be_recorded) {
  const OnDevice here(stack.spec.op, index);
  return plan_pass(work_of(stack, T, B, index, backward, can_be_recorded));
}

}  // namespace gpu
}  // namespace fastrnn
