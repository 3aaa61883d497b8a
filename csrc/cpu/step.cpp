#include <algorithm>

#include "compact.h"
#include "engine.h"
#include "team.h"

namespace fastrnn {

namespace {

// The passes of one layer: its directions need nothing of each other.
struct StepJob {
  const KernelEntry* kernel;
  StepPass passes[2];
  int64_t count;
  int members = 1;

  static Need task(void* self, int member) {
    const StepJob& job = *static_cast<StepJob*>(self);
    for (int64_t d = 0; d < job.count; ++d) job.kernel->step(&job.passes[d], member, job.members);
    return Need::kEnd;
  }
};

// The rows of the batch: where the first is, and how many elements apart they are.
struct BatchRows {
  char* base = nullptr;
  int64_t stride = 0;

  BatchRows() = default;
  BatchRows(char* b, int64_t s) : base(b), stride(s) {}
  // dim: of the batch, or -1 where there is one row alone.
  BatchRows(const Strided& a, int dim) : base(a.data()), stride(dim < 0 ? 0 : a.stride(dim)) {}
};

// An array (L * D, B, H) or (L * D, H) of a state; not given: rows of zeros, or none.
struct StepState {
  Strided array;
  bool given = false, batched = false;
  BatchRows otherwise;

  StepState() = default;
  StepState(const Spec& spec, const Problem& p, const View& view, char* zeros)
      : given(view.given), batched(p.batched), otherwise(zeros, 0) {
    if (given) array = Strided(spec, view, true);
  }
  BatchRows pass(int64_t index, int64_t element) const {
    if (!given) return otherwise;
    return {array.data() + index * array.stride(0) * element, batched ? array.stride(1) : 0};
  }
};

bool has_contiguous_columns(const View& view) {
  if (!view.given || view.rank != 2) return false;
  return view.shape[1] <= 1 || view.strides[1] == view.itemsize;
}

// The parameters of one direction of a layer; `owned` holds the arrays while the pass uses them.
void set_parameters(const Spec& spec, const View* given, std::vector<Strided>* owned,
                    StepPass* pass) {
  const auto matrix = [&](int64_t i) { return owned->emplace_back(spec, given[i], true).matrix(); };
  const auto vector = [&](int64_t i) { return owned->emplace_back(spec, given[i]).vector(); };
  pass->w_ih = matrix(kWeightIh), pass->w_hh = matrix(kWeightHh);
  if (spec.bias) pass->b_ih = vector(kBiasIh), pass->b_hh = vector(kBiasHh);
  if (spec.unit_parameters) pass->w_diag = vector(spec.place_of(kWeightDiag));
}

// Of the weights of a layer.
int64_t weight_bytes(const Spec& spec, int64_t layer) {
  const int64_t rows = spec.directions * spec.gates * spec.units;
  return rows * (spec.layer_inputs(layer) + spec.units) * spec.element_bytes;
}

}  // namespace

bool takes_step(const Weights& weights, const Problem& p, const Call& call) {
  const Spec& spec = weights.spec();
  if (!weights.kernel().step || p.T != 1 || p.B > kStepRows || call.kind != Kind::kInfer)
    return false;
  for (const RoleRule* rule : inputs_of(call.kind)) {
    if (rule->role == Role::kX || rule->role == Role::kInitial || rule->role == Role::kParameter)
      continue;
    for (const View& view : items_of(*rule, spec, call))
      if (view.given) return false;
  }
  const auto each = static_cast<size_t>(spec.params_per_pass());
  for (size_t i = 0; i < call.parameters.size(); i += each)
    if (!has_contiguous_columns(call.parameters[i + kWeightIh]) ||
        !has_contiguous_columns(call.parameters[i + kWeightHh]))
      return false;
  return true;
}

void step(const Weights& weights, const Problem& p, const Call& call) {
  const Spec& spec = weights.spec();
  check_call(spec, p, call);
  if (p.B == 0) return;
  const int64_t element = spec.element_bytes, H = spec.units, width = spec.directions * H;
  const int batch = p.batch_axis();

  // Zeros for a state that is not given, and what goes from layer to layer.
  const int64_t row = whole_lines(H * spec.accumulator_bytes()),
                between = whole_lines(p.B * width * element);
  bool zeros = false;
  for (int k = 0; k < spec.states; ++k) zeros |= !call.initial[k].given;
  const int64_t bytes = (zeros ? row : 0) + (spec.layers > 1 ? 2 * between : 0);
  const Block memory = bytes ? Block(bytes, spec.op, "workspace") : Block();
  char* const inner = memory.data() + (zeros ? row : 0);
  if (zeros) std::fill_n(memory.data(), row, char{0});

  const Strided x(spec, call.x, true), y(spec, call.y, true);
  StepState initial[kMaxStates], final[kMaxStates];
  for (int k = 0; k < spec.states; ++k) {
    initial[k] = StepState(spec, p, call.initial[k], memory.data());
    final[k] = StepState(spec, p, call.final[k], nullptr);
  }
  BatchRows in(x, batch);
  std::vector<Strided> owned;
  for (int64_t l = 0; l < spec.layers; ++l) {
    const bool last = l + 1 == spec.layers;
    const BatchRows out = last ? BatchRows(y, batch) : BatchRows(inner + l % 2 * between, width);
    StepJob job{&weights.kernel(), {}, spec.directions};
    owned.clear();
    for (int64_t d = 0; d < spec.directions; ++d) {
      const int64_t index = spec.pass(l, d);
      StepPass& pass = job.passes[d];
      pass.maths = &spec.maths[d];
      pass.I = spec.layer_inputs(l), pass.H = H, pass.rows = static_cast<int>(p.B);
      set_parameters(spec, call.parameters.data() + index * spec.params_per_pass(), &owned, &pass);
      pass.x = in.base, pass.x_stride = in.stride;
      pass.y = out.base + d * H * element, pass.y_stride = out.stride;
      for (int k = 0; k < spec.states; ++k) {
        const int64_t bytes = k == 0 ? element : spec.accumulator_bytes();
        const BatchRows from = initial[k].pass(index, bytes), to = final[k].pass(index, bytes);
        pass.initial[k] = from.base, pass.initial_stride[k] = from.stride;
        pass.final[k] = to.base, pass.final_stride[k] = to.stride;
      }
    }
    const Lease lease = lease_for_reading(weight_bytes(spec, l));
    job.members = lease.members();
    run_job({job.members, 1, &job, StepJob::task});
    in = out;
  }
}

}  // namespace fastrnn
