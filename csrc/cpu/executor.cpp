#include "executor.h"

#include <algorithm>

#include "sequences.h"

namespace fastrnn {

namespace {

// What the kernels are given for each op of the program.
class Passes {
 public:
  Passes(const Execution& e, char* workspace, CallMemory& memory)
      : e_(e),
        spec_(e.weights.spec()),
        workspace_(workspace),
        sequences_(spec_, e.problem, e.call, e.prepared.program, e.batch, workspace,
                   e.prepared.buffers, memory),
        initial_(sequences_.states(e.call.initial)),
        final_(sequences_.states(e.call.final)),
        dfinal_(sequences_.states(e.call.dfinal)),
        dinitial_(sequences_.states(e.call.dinitial)),
        masks_(sequences_.masks(e.call)) {}

  void set(const Scan& scan, ForwardPass* to) const {
    ForwardPass& pass = begin(scan, to);
    pass.states[0] =
        scan.recompute ? sequences_.of_window(scan.window_output, scan) : sequences_.output(scan);
    for (int k = 1; k < spec_.states; ++k)
      pass.states[k] = scan.recompute             ? sequences_.of_window(scan.states, scan, k - 1)
                       : scan.states != kNoBuffer ? sequences_.tape_state(scan, scan.states, k)
                                                  : overwritten_state(k);
    if (scan.saved != kNoBuffer) pass.saved = saved(scan, scan.recompute);
    if (!scan.recompute) pass.final = final_.of_pass(index(scan));
    for (int phase = 0; phase < e_.weights.kernel().phases; ++phase)
      pass.w[phase] = e_.weights.gate_panels(index(scan), phase);
    pass.product = &e_.weights.product();
    const float bound = spec_.bounded[scan.direction] ? 1.0f : 0.0f;
    pass.bounds[0] = spec_.projection ? 0 : bound, pass.bounds[1] = bound;
    pass.max_rows = e_.prepared.max_rows;
    pass.chunk_rows = e_.prepared.forward_rows;
    set_scratch(e_.prepared.forward, &pass);
  }

  void set(const ScanBackward& scan, BackwardPass* to) const {
    BackwardPass& pass = begin(scan, to);
    const bool recomputed = recomputes(spec_, e_.problem);
    pass.states[0] = sequences_.output(scan);
    for (int k = 1; k < spec_.states; ++k)
      pass.states[k] = recomputed ? sequences_.of_window(scan.states, scan, k - 1)
                                  : sequences_.tape_state(scan, scan.states, k);
    if (scan.saved != kNoBuffer) pass.saved = saved(scan, recomputed);
    pass.dy = at_column(sequences_[scan.dy], scan.direction * spec_.outputs(), spec_.element_bytes);
    pass.dfinal = dfinal_.of_pass(index(scan));
    pass.dinitial = dinitial_.of_pass(index(scan));
    pass.dx = sequences_[scan.dx];
    pass.accumulate_dx = scan.accumulate_dx;
    if (!e_.call.dparameters.empty()) {
      const View* gradients = e_.call.dparameters.data() + index(scan) * spec_.params_per_pass();
      pass.dw_ih = gradients[kWeightIh].data, pass.dw_hh = gradients[kWeightHh].data;
      if (spec_.bias) pass.db_ih = gradients[kBiasIh].data, pass.db_hh = gradients[kBiasHh].data;
      if (spec_.unit_parameters) pass.dw_diag = gradients[spec_.place_of(kWeightDiag)].data;
      if (spec_.projection) pass.dw_hr = gradients[spec_.place_of(kWeightHr)].data;
    }
    pass.w = e_.weights.matrix_panels(index(scan));
    pass.chunk_rows = e_.prepared.backward_rows;
    pass.shared = workspace_ + e_.prepared.shared;
    set_scratch(e_.prepared.backward, &pass);
  }

 private:
  const Execution& e_;
  const Spec& spec_;
  char* workspace_;
  Sequences sequences_;
  StateArrays initial_, final_, dfinal_, dinitial_;
  MaskArray masks_;

  int64_t index(const Recurrence& r) const { return spec_.pass(r.layer, r.direction); }

  // What passes of both kinds are given alike.
  template <class Pass> Pass& begin(const Recurrence& r, Pass* to) const {
    Pass& pass = *to = Pass{};
    pass.scan = &e_.batch.steps;
    pass.maths = &spec_.maths[r.direction];
    pass.I = spec_.layer_inputs(r.layer);
    pass.H = spec_.units, pass.P = spec_.outputs();
    pass.reverse = e_.call.is_reversed(r.direction);
    pass.begin = r.begin, pass.end = r.end;
    pass.T = e_.problem.T;
    pass.x = sequences_[r.input], pass.mask = sequences_[r.mask];
    pass.initial = initial_.of_pass(index(r));
    pass.recurrent_masks = masks_.of_pass(index(r));
    if (r.begin == 0) return pass;
    pass.entering[0] = sequences_.output(r);
    for (int k = 1; k < spec_.states; ++k)
      pass.entering[k] = sequences_.tape_state(r, r.checkpoints, k);
    return pass;
  }

  Sequence saved(const Recurrence& r, bool of_window) const {
    return of_window ? sequences_.of_window(r.saved, r) : sequences_.tape_saved(r);
  }

  // One row for all steps.
  Sequence overwritten_state(int k) const {
    const int64_t rows = (k - 1) * e_.problem.B * spec_.units;
    char* base = workspace_ + e_.prepared.states + rows * spec_.accumulator_bytes();
    return {base, 0, spec_.units, 1, 0, 0, nullptr};
  }

  template <class Pass> void set_scratch(const MemberScratch& of, Pass* pass) const {
    pass->scratch = workspace_ + of.offset;
    pass->scratch_stride = of.stride;
  }
};

// How far a part has come: its op, and within it the kernel's own object.
struct Part {
  ThreadWork work;
  void* state;
  size_t op = 0;
  int first = 1;  // 1 where the next task is the op's first
  union {         // of the op
    ForwardPass forward;
    BackwardPass backward;
  };

  Part(const ThreadWork& w, void* s) : work(w), state(s) {}
};

struct ProgramJob {
  const KernelEntry& kernel;
  const Passes& passes;
  const std::pmr::vector<Op>& ops;
  List<Part> parts;

  void enter(Part* part) const {
    const Op& op = ops[part->op];
    if (const Scan* scan = std::get_if<Scan>(&op))
      passes.set(*scan, &part->forward);
    else
      passes.set(std::get<ScanBackward>(op), &part->backward);
  }

  static Need task(void* self, int number) {
    ProgramJob& job = *static_cast<ProgramJob*>(self);
    Part& part = job.parts[static_cast<size_t>(number)];
    const bool back = std::holds_alternative<ScanBackward>(job.ops[part.op]);
    const Need need = back ? job.kernel.backward(&part.backward, &part.work, part.state, part.first)
                           : job.kernel.forward(&part.forward, &part.work, part.state, part.first);
    part.first = need == Need::kEnd;
    if (need != Need::kEnd) return need;
    if (++part.op == job.ops.size()) return Need::kEnd;
    job.enter(&part);
    // Back through a window, parts use each other's results and buffers. Forward, a part reads what
    // those that share its rows have written.
    return back ? Need::kTeam : Need::kGroup;
  }
};

// Room for the kernels' objects of all parts.
char* kernel_objects(const KernelEntry& kernel, const Call& call, int parts, int64_t* stride,
                     CallMemory& memory) {
  const bool both = call.backward();
  *stride = whole_lines(both ? std::max(kernel.backward_state, kernel.forward_state)
                             : kernel.forward_state);
  const auto bytes = static_cast<size_t>(parts * *stride);
  return static_cast<char*>(memory.lists()->allocate(bytes, kCacheLine));
}

}  // namespace

void execute(const Execution& e, CallMemory& memory) {
  const KernelEntry& kernel = e.weights.kernel();
  const Plan& plan = e.threads.plan;
  char* workspace = memory.workspace(e.prepared.bytes, e.weights.spec().op);
  const Passes passes(e, workspace, memory);
  int64_t stride = 0;
  char* objects = kernel_objects(kernel, e.call, plan.threads(), &stride, memory);
  ProgramJob job{kernel, passes, e.prepared.program.ops, List<Part>(memory.lists())};
  job.parts.reserve(static_cast<size_t>(plan.threads()));
  for (int i = 0; i < plan.threads(); ++i)
    job.enter(&job.parts.emplace_back(e.threads.work(e.batch, i), objects + i * stride));
  run_job({plan.threads(), plan.unit_members, &job, ProgramJob::task});
}

}  // namespace fastrnn
