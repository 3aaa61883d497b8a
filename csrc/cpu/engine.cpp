#include "engine.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "../core/validate.h"
#include "compact.h"
#include "team.h"

namespace fastrnn {

namespace {

// ---- who does what
// -------------------------------------------------------------------------------

// The rows of the batch, longest first, and what each takes.
struct Rows {
  std::vector<int64_t> row, length;
  int64_t total = 0;
  Scan scan{};

  Rows(const std::vector<int64_t>& lengths, const View& resets, const Problem& p)
      : row(lengths.size()), length(lengths.size()) {
    std::iota(row.begin(), row.end(), 0);
    std::stable_sort(row.begin(), row.end(),
                     [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
    for (size_t i = 0; i < row.size(); ++i) length[i] = lengths[row[i]];
    total = std::accumulate(length.begin(), length.end(), int64_t{0});
    scan.B = p.B;
    scan.row = row.data();
    scan.length = length.data();
    if (!resets.given || p.T == 0 || p.B == 0) return;
    scan.reset = reinterpret_cast<const uint8_t*>(resets.data);
    scan.reset_t = resets.strides[p.batched && p.batch_first ? 1 : 0];
    scan.reset_b = p.batched ? resets.strides[p.batch_first ? 0 : 1] : 0;
  }

  // The first position of a group, so that groups have steps alike: few long rows or many short
  // ones.
  int64_t begin_of(int group, int groups) const {
    if (group == groups) return static_cast<int64_t>(length.size());
    if (total == 0) return static_cast<int64_t>(length.size()) * group / groups;
    int64_t steps = 0, position = 0;
    while (position < static_cast<int64_t>(length.size()) && steps * groups < total * group)
      steps += length[position++];
    return position;
  }
};

struct Team {
  int row_groups, unit_members;
  std::vector<Barrier> barriers;  // the whole team's, then each group's
  const Rows& rows;

  Team(const Plan& plan, const Rows& r)
      : row_groups(plan.row_groups),
        unit_members(plan.unit_members),
        barriers(static_cast<size_t>(1 + plan.row_groups)),
        rows(r) {
    reset(&barriers[0], plan.threads());
    for (int g = 0; g < row_groups; ++g) reset(&barriers[1 + g], unit_members);
  }

  Share share(int member, int members) {
    Share s{};
    s.member = member;
    s.members = members;
    const bool split = members > 1;
    const int group = split ? member / unit_members : 0, groups = split ? row_groups : 1;
    s.unit_members = split ? unit_members : 1;
    s.unit_member = split ? member % unit_members : 0;
    s.row_begin = rows.begin_of(group, groups);
    s.row_end = rows.begin_of(group + 1, groups);
    s.group = s.unit_members > 1 ? &barriers[1 + group] : nullptr;
    s.team = split ? &barriers[0] : nullptr;
    return s;
  }

  int64_t most_rows() const {
    int64_t most = 0;
    for (int g = 0; g < row_groups; ++g)
      most = std::max(most, rows.begin_of(g + 1, row_groups) - rows.begin_of(g, row_groups));
    return most;
  }
};

// ---- the caller's arrays as sequences
// ----------------------------------------------------------------

struct Elements {
  int64_t bytes;
  void* at(void* base, int64_t n) const { return static_cast<char*>(base) + n * bytes; }
};

Sequence sequence_of(const Strided& a, const Problem& p) {
  if (!p.batched) return {a.data(), a.stride(0), 0};
  return {a.data(), a.stride(p.batch_first ? 1 : 0), a.stride(p.batch_first ? 0 : 1)};
}

Sequence offset(Sequence q, int64_t elements, Elements e) {
  q.base = e.at(q.base, elements);
  return q;
}

// Contiguous T x B rows of `width`.
Sequence dense(void* base, const Problem& p, int64_t width) { return {base, p.B * width, width}; }

// Arrays (L * D, B, H), one for each state; not given ones stay null.
struct StateArrays {
  std::unique_ptr<Strided> arrays[kMaxStates];
  bool batched;

  StateArrays(const Spec& spec, const Problem& p, const View* views) : batched(p.batched) {
    for (int k = 0; k < spec.states; ++k)
      if (views[k].given) arrays[k] = std::make_unique<Strided>(spec, views[k], true);
  }
  States pass(int64_t index, Elements e) const {
    States s{};
    for (int k = 0; k < kMaxStates; ++k) {
      if (!arrays[k]) continue;
      s.base[k] = e.at(arrays[k]->data(), index * arrays[k]->stride(0));
      s.b_stride[k] = batched ? arrays[k]->stride(1) : 0;
    }
    return s;
  }
};

// Names of the states' arrays, for messages.
const char* const kInitial[kMaxStates] = {"h0", "c0"};
const char* const kFinal[kMaxStates] = {"hn", "cn"};
const char* const kInitialGradient[kMaxStates] = {"dh0", "dc0"};
const char* const kFinalGradient[kMaxStates] = {"dhn", "dcn"};

// What both directions are given and check alike.
template <class Call> Problem check_common(const Spec& spec, const Call& call) {
  const Problem p = check_input(spec, call.x, call.batch_first);
  const Shape state = state_shape(spec, p);
  for (int k = 0; k < spec.states; ++k)
    if (call.initial[k].given) check_values(spec, kInitial[k], call.initial[k], state);
  check_resets(spec, p, call.resets);
  if (call.has_masks && static_cast<int64_t>(call.masks.size()) != spec.layers - 1)
    throw Error(Fault::kValue, spec.op,
                "dropout_masks must be one for each layer but the last (" +
                    std::to_string(spec.layers - 1) + "), got " +
                    std::to_string(call.masks.size()));
  for (size_t l = 0; l < call.masks.size(); ++l)
    check_values(spec, "dropout mask " + std::to_string(l), call.masks[l],
                 p.sequence(spec.directions * spec.units));
  return p;
}

template <class Call> std::vector<Named> inputs_of(const Call& call, const Spec& spec) {
  std::vector<Named> in = {{"x", &call.x}, {"lengths", &call.lengths}, {"resets", &call.resets}};
  for (int k = 0; k < spec.states; ++k) in.push_back({kInitial[k], &call.initial[k]});
  for (const View& mask : call.masks) in.push_back({"a dropout mask", &mask});
  return in;
}

// The outputs of a forward call, unless all were made for it.
void check_brought_outputs(const Spec& spec, const Problem& p, const ForwardCall& call) {
  bool fresh = call.y.fresh;
  for (const View* v : {&call.tape.inner, &call.tape.states, &call.tape.saved})
    fresh &= !call.keep_tape || v->fresh;
  for (int k = 0; k < spec.states; ++k) fresh &= call.final[k].fresh;
  if (fresh) return;
  std::vector<Output> out = {{"y", &call.y, p.sequence(spec.directions * spec.units)}};
  for (int k = 0; k < spec.states; ++k)
    out.push_back({kFinal[k], &call.final[k], state_shape(spec, p)});
  if (call.keep_tape) {
    const TapeShapes shapes = tape_shapes(spec, p);
    out.push_back({"tape inner", &call.tape.inner, shapes.inner, true});
    out.push_back({"tape states", &call.tape.states, shapes.states, true});
    out.push_back({"tape saved", &call.tape.saved, shapes.saved, true});
  }
  check_outputs(spec, out, inputs_of(call, spec));
}

// The input of each layer (x, then the outputs below) and each layer's output, h of every step.
struct Layers {
  std::vector<Sequence> x, y, mask;
  std::vector<std::unique_ptr<Strided>> kept;

  template <class Call> Layers(const Spec& spec, const Problem& p, const Call& call, void* inner) {
    const int64_t width = spec.directions * spec.units;
    const Elements e{spec.element_bytes};
    kept.push_back(std::make_unique<Strided>(spec, call.x, true));
    x.push_back(sequence_of(*kept.back(), p));
    for (int64_t l = 0; l + 1 < spec.layers; ++l) {
      y.push_back(dense(e.at(inner, l * p.T * p.B * width), p, width));
      x.push_back(y.back());
    }
    kept.push_back(std::make_unique<Strided>(spec, call.y, true));
    y.push_back(sequence_of(*kept.back(), p));
    mask.resize(static_cast<size_t>(spec.layers), Sequence{});
    for (size_t l = 0; l < call.masks.size(); ++l) {
      kept.push_back(std::make_unique<Strided>(spec, call.masks[l], true));
      mask[l + 1] = sequence_of(*kept.back(), p);
    }
  }
};

// The planes of the states beside h and the saved values of one pass, inside contiguous tape
// arrays.
struct Tape {
  char *states, *saved;
  Sequence state(const Spec& s, const Problem& p, int k, int64_t pass) const {
    const int64_t passes = s.layers * s.directions, plane = p.T * p.B * s.units;
    return dense(states + ((k - 1) * passes + pass) * plane * s.element_bytes, p, s.units);
  }
  Sequence save(const Spec& s, const Problem& p, int64_t pass) const {
    const int64_t width = s.saved * s.units;
    if (width == 0) return {};
    return dense(saved + pass * p.T * p.B * width * s.element_bytes, p, width);
  }
};

// Scratch of each member; the block also serves one member alone that takes all rows.
struct Scratch {
  int64_t stride, bytes;
  Scratch(int64_t one, int64_t alone, int members)
      : stride(whole_lines(one)), bytes(std::max(whole_lines(one) * members, alone)) {}
};

int64_t widest_input(const Spec& spec) {
  return spec.layers > 1 ? std::max(spec.inputs, spec.directions * spec.units) : spec.inputs;
}

Scratch forward_scratch(const KernelEntry& k, const Spec& spec, const Plan& plan, int64_t rows,
                        int64_t B, bool masked) {
  const int64_t I = widest_input(spec), H = spec.units;
  return {k.forward_scratch(I, H, rows, plan.chunk, masked),
          k.forward_scratch(I, H, B, plan.chunk, masked), plan.threads()};
}

// Memory of a forward call: outputs between the layers and states, when no tape keeps them;
// scratch.
struct ForwardNeeds {
  int64_t inner, states;
  Scratch scratch;
  ForwardNeeds(const KernelEntry& k, const Spec& s, const Problem& p, const Plan& plan,
               int64_t rows, bool keep_tape, bool masked)
      : inner(keep_tape ? 0
                        : whole_lines((s.layers - 1) * p.T * p.B * s.directions * s.units *
                                      s.element_bytes)),
        states(keep_tape ? 0 : whole_lines((s.states - 1) * p.B * s.units * s.element_bytes)),
        scratch(forward_scratch(k, s, plan, rows, p.B, masked)) {}
  int64_t bytes() const { return inner + states + scratch.bytes; }
};

// Memory of a backward call: two gradients between layers, what the team shares, scratch.
struct BackwardNeeds {
  int64_t between, shared;
  Scratch scratch;
  BackwardNeeds(const KernelEntry& k, const Spec& s, const Problem& p, const Plan& plan,
                int64_t rows)
      : between(whole_lines(p.T * p.B * s.directions * s.units * s.element_bytes)),
        shared(whole_lines(k.backward_shared(widest_input(s), s.units, p.B, plan.chunk))),
        scratch(k.backward_scratch(s.units, rows, plan.chunk),
                k.backward_scratch(s.units, p.B, plan.chunk), plan.threads()),
        between_count(std::min<int64_t>(2, s.layers - 1)) {}
  int64_t between_count;
  int64_t bytes() const { return between * between_count + shared + scratch.bytes; }
};

template <class Pass> struct Job {
  std::vector<Pass> passes;
  Team* team;
  void (*kernel)(const Pass*, const Share*);
  bool wait_between;  // members use each other's results and buffers from pass to pass

  static void run(void* self, int member, int members) {
    Job& job = *static_cast<Job*>(self);
    const Share share = job.team->share(member, members);
    for (const Pass& pass : job.passes) {
      job.kernel(&pass, &share);
      if (job.wait_between && share.team) wait(share.team);
    }
  }
};

}  // namespace

void forward(const Weights& weights, const ForwardCall& call) {
  const Spec& spec = weights.spec();
  const KernelEntry& kernel = weights.kernel();
  const Problem p = check_common(spec, call);
  const std::vector<int64_t> lengths = check_lengths(spec, p, call.lengths);
  check_brought_outputs(spec, p, call);

  const Rows rows(lengths, call.resets, p);
  const Plan plan = plan_forward(kernel, spec, p, rows.total, available_threads());
  Team team(plan, rows);
  const bool masked = !call.masks.empty();
  const ForwardNeeds needs(kernel, spec, p, plan, team.most_rows(), call.keep_tape, masked);
  const Block memory(needs.bytes(), spec.op, "workspace");
  char* const inner = call.keep_tape ? call.tape.inner.data : memory.data();
  char* const states = memory.data() + needs.inner;
  char* const scratch = states + needs.states;
  const Layers layers(spec, p, call, inner);
  const Tape tape{call.tape.states.data, call.tape.saved.data};
  const StateArrays initial(spec, p, call.initial), final(spec, p, call.final);
  const Elements e{spec.element_bytes};

  Job<ForwardPass> job{{}, &team, kernel.forward, false};
  for (int64_t l = 0; l < spec.layers; ++l)
    for (int64_t d = 0; d < spec.directions; ++d) {
      const int64_t index = l * spec.directions + d;
      ForwardPass pass{};
      pass.scan = &rows.scan;
      pass.I = spec.layer_inputs(l);
      pass.H = spec.units;
      pass.reverse = d == 1;
      pass.x = layers.x[l];
      pass.mask = layers.mask[l];
      pass.T = p.T;
      pass.y = offset(layers.y[l], d * spec.units, e);
      for (int k = 1; k < spec.states; ++k)
        pass.states[k] =
            call.keep_tape ? tape.state(spec, p, k, index)
                           : Sequence{states + (k - 1) * p.B * spec.units * e.bytes, 0, spec.units};
      if (call.keep_tape) pass.saved = tape.save(spec, p, index);
      pass.initial = initial.pass(index, e);
      pass.final = final.pass(index, e);
      pass.w = weights.gate_panels(index);
      pass.chunk = plan.chunk;
      pass.scratch = scratch;
      pass.scratch_stride = needs.scratch.stride;
      job.passes.push_back(pass);
    }
  run_team(plan.threads(), Job<ForwardPass>::run, &job);
}

void backward(const Weights& weights, const BackwardCall& call) {
  const Spec& spec = weights.spec();
  const KernelEntry& kernel = weights.kernel();
  const Problem p = check_common(spec, call);
  const std::vector<int64_t> lengths = check_lengths(spec, p, call.lengths);
  const int64_t width = spec.directions * spec.units;
  const TapeShapes shapes = tape_shapes(spec, p);
  check_values(spec, "y of the tape", call.y, p.sequence(width));
  check_block(spec, "tape inner", call.tape.inner, shapes.inner);
  check_block(spec, "tape states", call.tape.states, shapes.states);
  check_block(spec, "tape saved", call.tape.saved, shapes.saved);
  check_values(spec, "dy", call.dy, p.sequence(width));
  std::vector<Named> in = inputs_of(call, spec);
  for (const View* v : {&call.y, &call.tape.inner, &call.tape.states, &call.tape.saved, &call.dy})
    in.push_back({"the tape or dy", v});
  std::vector<Output> out = {{"dx", &call.dx, p.sequence(spec.inputs)}};
  for (int k = 0; k < spec.states; ++k) {
    if (call.dfinal[k].given)
      check_values(spec, kFinalGradient[k], call.dfinal[k], state_shape(spec, p));
    in.push_back({kFinalGradient[k], &call.dfinal[k]});
    out.push_back({kInitialGradient[k], &call.dinitial[k], state_shape(spec, p)});
  }
  const std::vector<Parameter> parameters = parameters_of(spec);
  if (call.dparameters.size() != parameters.size())
    throw Error(Fault::kValue, spec.op,
                "there must be " + std::to_string(parameters.size()) + " gradients, got " +
                    std::to_string(call.dparameters.size()));
  for (size_t i = 0; i < parameters.size(); ++i)
    out.push_back({"d" + parameters[i].name, &call.dparameters[i], parameters[i].shape, true});
  check_outputs(spec, out, in);

  const Rows rows(lengths, call.resets, p);
  const Plan plan = plan_backward(kernel, spec, p, rows.total, available_threads());
  Team team(plan, rows);
  const BackwardNeeds needs(kernel, spec, p, plan, team.most_rows());
  const Block memory(needs.bytes(), spec.op, "workspace");
  char* const shared = memory.data() + needs.between * needs.between_count;
  char* const scratch = shared + needs.shared;
  const Strided dy_given(spec, call.dy, true), dx_given(spec, call.dx);
  const Layers layers(spec, p, call, call.tape.inner.data);
  const Tape tape{call.tape.states.data, call.tape.saved.data};
  const StateArrays initial(spec, p, call.initial), dfinal(spec, p, call.dfinal),
      dinitial(spec, p, call.dinitial);
  const Elements e{spec.element_bytes};
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Shape& s = parameters[i].shape;
    const int64_t n = std::accumulate(s.begin(), s.end(), e.bytes, std::multiplies<int64_t>());
    std::memset(call.dparameters[i].data, 0, static_cast<size_t>(n));
  }

  Job<BackwardPass> job{{}, &team, kernel.backward, true};
  Sequence dy = sequence_of(dy_given, p);
  for (int64_t l = spec.layers - 1; l >= 0; --l) {
    const Sequence dx =
        l == 0 ? sequence_of(dx_given, p)
               : dense(memory.data() + (l % needs.between_count) * needs.between, p, width);
    for (int64_t d = 0; d < spec.directions; ++d) {
      const int64_t index = l * spec.directions + d;
      BackwardPass pass{};
      pass.scan = &rows.scan;
      pass.I = spec.layer_inputs(l);
      pass.H = spec.units;
      pass.reverse = d == 1;
      pass.T = p.T;
      pass.x = layers.x[l];
      pass.mask = layers.mask[l];
      pass.y = offset(layers.y[l], d * spec.units, e);
      for (int k = 1; k < spec.states; ++k) pass.states[k] = tape.state(spec, p, k, index);
      pass.saved = tape.save(spec, p, index);
      pass.initial = initial.pass(index, e);
      pass.dy = offset(dy, d * spec.units, e);
      pass.dfinal = dfinal.pass(index, e);
      pass.dinitial = dinitial.pass(index, e);
      pass.dx = dx;
      pass.accumulate_dx = d == 1;
      const View* grads = call.dparameters.data() + index * spec.params_per_pass();
      pass.dw_ih = grads[0].data;
      pass.dw_hh = grads[1].data;
      if (spec.bias) pass.db_ih = grads[2].data, pass.db_hh = grads[3].data;
      pass.w = weights.matrix_panels(index);
      pass.chunk = plan.chunk;
      pass.shared = shared;
      pass.scratch = scratch;
      pass.scratch_stride = needs.scratch.stride;
      job.passes.push_back(pass);
    }
    dy = dx;
  }
  run_team(plan.threads(), Job<BackwardPass>::run, &job);
}

Usage forward_usage(const Weights& weights, const Problem& p, bool keep_tape, bool masked) {
  const Spec& spec = weights.spec();
  const Plan plan = plan_forward(weights.kernel(), spec, p, p.T * p.B, available_threads());
  const int64_t rows = (p.B + plan.row_groups - 1) / plan.row_groups;
  return {plan, ForwardNeeds(weights.kernel(), spec, p, plan, rows, keep_tape, masked).bytes()};
}

Usage backward_usage(const Weights& weights, const Problem& p) {
  const Spec& spec = weights.spec();
  const Plan plan = plan_backward(weights.kernel(), spec, p, p.T * p.B, available_threads());
  const int64_t rows = (p.B + plan.row_groups - 1) / plan.row_groups;
  return {plan, BackwardNeeds(weights.kernel(), spec, p, plan, rows).bytes()};
}

}  // namespace fastrnn
