#include "engine.h"

#include <algorithm>
#include <memory_resource>
#include <numeric>
#include <optional>

#include "../core/validate.h"
#include "compact.h"
#include "team.h"

namespace fastrnn {

namespace {

// ---- who does what -------------------------------------------------------------------------

// Memory that lives as long as a call. Its lists, and the workspace of a small one, come from the
// stack: a call for one step of a small layer would spend a good part of its time in malloc.
class Local {
 public:
  std::pmr::memory_resource* lists() { return &memory_; }

  char* workspace(int64_t bytes, const std::string& op) {
    if (bytes <= kSmall)
      return static_cast<char*>(memory_.allocate(static_cast<size_t>(bytes), 64));
    large_ = Block(bytes, op, "workspace");
    return large_.data();
  }

 private:
  static constexpr int64_t kSmall = 8192;
  alignas(64) char stack_[2 * kSmall];
  std::pmr::monotonic_buffer_resource memory_{stack_, sizeof stack_};
  Block large_;
};
template <class T> using List = std::pmr::vector<T>;

// The rows of the batch, longest first, and what each takes.
struct Rows {
  List<int64_t> row, length;
  int64_t total = 0;
  Scan scan{};

  Rows(const Spec& spec, const Problem& p, const View& lengths, const View& resets, Local& local)
      : row(static_cast<size_t>(p.B), local.lists()),
        length(static_cast<size_t>(p.B), local.lists()) {
    read_lengths(spec, p, lengths, length.data());
    std::iota(row.begin(), row.end(), 0);
    if (lengths.given) sort(local);
    total = std::accumulate(length.begin(), length.end(), int64_t{0});
    scan.B = p.B;
    scan.row = row.data();
    scan.length = length.data();
    if (!resets.given || p.T == 0 || p.B == 0) return;
    scan.reset = reinterpret_cast<const uint8_t*>(resets.data);
    scan.reset_t = resets.strides[p.batched && p.batch_first ? 1 : 0];
    scan.reset_b = p.batched ? resets.strides[p.batch_first ? 0 : 1] : 0;
  }

  void sort(Local& local) {
    const List<int64_t> lengths(length, local.lists());
    std::stable_sort(row.begin(), row.end(),
                     [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
    for (size_t i = 0; i < row.size(); ++i) length[i] = lengths[row[i]];
  }

  int64_t longest() const { return length.empty() ? 0 : length[0]; }

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

// The plan of a call, and the members that it may have.
struct Team {
  Plan plan;
  std::optional<Lease> lease;

  // make_plan(threads) makes a plan. Small calls ask nobody: that would take a part of their time.
  template <class MakePlan> explicit Team(MakePlan make_plan) : plan(make_plan(1)) {
    if (!plan.worth_a_team) return;
    const int threads = available_threads();
    if (threads > 1) plan = make_plan(threads);
    lease.emplace(plan.threads());
    if (lease->members() < plan.threads()) plan = make_plan(lease->members());
  }

  ThreadWork share(const Rows& rows, int part) const {
    ThreadWork s{};
    s.member = part;
    s.members = plan.threads();
    const int group = part / plan.unit_members;
    s.unit_members = plan.unit_members;
    s.unit_member = part % plan.unit_members;
    s.recurrence_threads = plan.recurrence_threads;
    s.row_begin = rows.begin_of(group, plan.row_groups);
    s.row_end = rows.begin_of(group + 1, plan.row_groups);
    return s;
  }

  int64_t most_rows(const Rows& rows) const {
    int64_t most = 0;
    for (int g = 0; g < plan.row_groups; ++g)
      most =
          std::max(most, rows.begin_of(g + 1, plan.row_groups) - rows.begin_of(g, plan.row_groups));
    return most;
  }
};

// ---- the caller's arrays as sequences ------------------------------------------------------

struct Elements {
  int64_t bytes;
  void* at(void* base, int64_t n) const { return static_cast<char*>(base) + n * bytes; }
};

Sequence sequence_of(const Strided& a, const Problem& p) {
  if (!p.batched) return {a.data(), a.stride(0), 0, 0, 0};
  return {a.data(), a.stride(p.batch_first ? 1 : 0), a.stride(p.batch_first ? 0 : 1), 0, 0};
}

Sequence offset(Sequence q, int64_t elements, Elements e) {
  q.base = e.at(q.base, elements);
  return q;
}

// Contiguous T x B rows of `width`.
Sequence dense(void* base, const Problem& p, int64_t width) {
  return {base, p.B * width, width, 0, 0};
}

// Arrays (L * D, B, H), one for each state; not given ones stay null.
struct StateArrays {
  std::optional<Strided> arrays[kMaxStates];
  bool batched;

  StateArrays(const Spec& spec, const Problem& p, const View* views) : batched(p.batched) {
    for (int k = 0; k < spec.states; ++k)
      if (views[k].given) arrays[k].emplace(spec, views[k], true);
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

// The input of each layer (x, then the outputs below) and each layer's output, h of every step.
struct Layers {
  List<Sequence> x, y, mask;
  List<Strided> kept;

  template <class Call>
  Layers(const Spec& spec, const Problem& p, const Call& call, char* inner, Local& local)
      : x(local.lists()),
        y(local.lists()),
        mask(static_cast<size_t>(spec.layers), local.lists()),
        kept(local.lists()) {
    const int64_t width = spec.directions * spec.units;
    const Elements e{spec.element_bytes};
    x.reserve(mask.size()), y.reserve(mask.size()), kept.reserve(2 + call.masks.size());
    x.push_back(sequence_of(kept.emplace_back(spec, call.x, true), p));
    for (int64_t l = 0; l + 1 < spec.layers; ++l) {
      y.push_back(dense(e.at(inner, l * p.T * p.B * width), p, width));
      x.push_back(y.back());
    }
    y.push_back(sequence_of(kept.emplace_back(spec, call.y, true), p));
    for (size_t l = 0; l < call.masks.size(); ++l)
      mask[l + 1] = sequence_of(kept.emplace_back(spec, call.masks[l], true), p);
  }
};

// The planes of the states beside h and the saved values of one pass, inside contiguous tape
// arrays.
struct Tape {
  char *states, *saved;
  Sequence state(const Spec& s, const Problem& p, int k, int64_t pass) const {
    const int64_t passes = s.layers * s.directions;
    const int64_t plane = p.kept_steps() * p.B * s.units;
    Sequence q = dense(states + ((k - 1) * passes + pass) * plane * s.element_bytes, p, s.units);
    q.steps_per_row = p.recompute;
    return q;
  }
  Sequence save(const Spec& s, const Problem& p, int64_t pass) const {
    const int64_t width = s.saved * s.units;
    if (width == 0 || p.recompute) return {};
    return dense(saved + pass * p.T * p.B * width * s.element_bytes, p, width);
  }
};

// Scratch of each part.
struct Scratch {
  int64_t stride, bytes;
  Scratch(int64_t one, int parts) : stride(whole_lines(one)), bytes(stride * parts) {}
};

int64_t widest_input(const Spec& spec) {
  return spec.layers > 1 ? std::max(spec.inputs, spec.directions * spec.units) : spec.inputs;
}

Scratch forward_scratch(const KernelEntry& k, const Spec& spec, int64_t chunk, int parts,
                        int64_t rows, bool masked) {
  return {k.forward_scratch(widest_input(spec), spec.units, rows, chunk, masked), parts};
}

// What a pass of either direction is given alike.
template <class Pass> void set_common(Pass* pass, const Spec& spec, const Problem& p,
                                      const Rows& rows, int64_t layer, int64_t direction) {
  pass->scan = &rows.scan;
  pass->I = spec.layer_inputs(layer);
  pass->H = spec.units;
  pass->reverse = direction == 1;
  pass->end = rows.longest();
  pass->T = p.T;
}

// Has the cell anything that backward makes anew?
bool makes_anew(const Spec& s, const Problem& p) {
  return p.recompute > 0 && (s.saved > 0 || s.states > 1);
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
        scratch(forward_scratch(k, s, plan.chunk, plan.threads(), rows, masked)) {}
  int64_t bytes() const { return inner + states + scratch.bytes; }
};

// What backward makes anew: the states and saved values of a window of steps, by scan step.
struct Window {
  int64_t steps, chunk;  // chunk: of the forward pass
  int64_t state, saved;  // bytes

  Window(const KernelEntry& k, const Spec& s, const Problem& p, const Plan& plan, int64_t total)
      : steps(std::max<int64_t>(1, p.T)), chunk(0), state(0), saved(0) {
    if (!makes_anew(s, p)) return;
    // Whole pieces between checkpoints, and at least a chunk.
    const int64_t pieces = (plan.chunk - 1) / p.recompute + 1;
    steps = p.recompute >= p.T ? steps : std::min(steps, pieces * p.recompute);
    chunk = std::min(steps, plan_forward(k, s, p, total, plan.threads()).chunk);
    state = whole_lines(steps * p.B * s.units * s.element_bytes);
    saved = whole_lines(steps * p.B * s.units * s.saved * s.element_bytes);
  }
  int64_t bytes(const Spec& s) const { return s.states * state + saved; }
};

// `again` makes the window's states and saved values from the input and the state that enters, and
// `back` reads them from there. Rows of a window are found by scan step.
void set_window(ForwardPass* again, BackwardPass* back, const Spec& spec, const Problem& p,
                const Window& window, char* memory) {
  const auto take = [&](int64_t bytes, int64_t width) {
    const Sequence q{memory, p.B * width, width, 1, 0};
    memory += bytes;
    return q;
  };
  again->x = back->x, again->mask = back->mask, again->initial = back->initial;
  again->chunk = window.chunk;
  for (int k = 0; k < spec.states; ++k) {
    again->entering[k] = back->entering[k];
    again->states[k] = take(window.state, spec.units);
    if (k > 0) back->states[k] = again->states[k];
  }
  if (spec.saved > 0) again->saved = back->saved = take(window.saved, spec.saved * spec.units);
}

// Memory of a backward call: two gradients between layers, what the team shares, the window that is
// made anew, scratch of backward and of making it anew.
struct BackwardNeeds {
  Window window;
  int64_t between, between_count, shared, again;
  Scratch scratch, again_scratch;
  BackwardNeeds(const KernelEntry& k, const Spec& s, const Problem& p, const Plan& plan,
                int64_t rows, int64_t total, bool masked)
      : window(k, s, p, plan, total),
        between(whole_lines(p.T * p.B * s.directions * s.units * s.element_bytes)),
        between_count(std::min<int64_t>(2, s.layers - 1)),
        shared(whole_lines(k.backward_shared(widest_input(s), s.units, p.B, plan.chunk))),
        again(window.bytes(s)),
        scratch(k.backward_scratch(s.units, p.B, rows, plan.chunk), plan.threads()),
        again_scratch(makes_anew(s, p)
                          ? forward_scratch(k, s, window.chunk, plan.threads(), rows, masked)
                          : Scratch(0, 1)) {}
  int64_t bytes() const {
    return between * between_count + shared + again + scratch.bytes + again_scratch.bytes;
  }
};

// How far a part is: its pass, and within it the kernel's own object.
struct Cursor {
  ThreadWork share;
  void* state;
  size_t pass = 0;
  int first = 1;  // 1 where the next task is the first of a pass or window
};

// Cursors of all parts, with room for the objects of the kernel.
List<Cursor> cursors_of(const Team& team, const Rows& rows, int64_t state_bytes, Local& local) {
  const int64_t stride = whole_lines(state_bytes);
  const int parts = team.plan.threads();
  char* memory =
      static_cast<char*>(local.lists()->allocate(static_cast<size_t>(parts * stride), kCacheLine));
  List<Cursor> cursors(local.lists());
  cursors.reserve(static_cast<size_t>(parts));
  for (int part = 0; part < parts; ++part)
    cursors.push_back({team.share(rows, part), memory + part * stride});
  return cursors;
}

// The passes of a forward call, one after the other.
struct ForwardJob {
  const KernelEntry& kernel;
  List<ForwardPass> passes;
  List<Cursor> cursors;

  static Need task(void* self, int part) {
    ForwardJob& job = *static_cast<ForwardJob*>(self);
    Cursor& at = job.cursors[part];
    const Need need = job.kernel.forward(&job.passes[at.pass], &at.share, at.state, at.first);
    at.first = need == Need::kEnd;
    if (need != Need::kEnd) return need;
    // A part reads what those of its rows have written in the pass before.
    return ++at.pass < job.passes.size() ? Need::kGroup : Need::kEnd;
  }
};

// The passes of a backward call: each in windows, the last first, made anew before if need be.
struct BackwardJob {
  struct Both {
    ForwardPass again;
    BackwardPass back;
  };
  struct Part : Cursor {
    Both both{};  // the window's
    int64_t window = 0;
    bool anew = false;  // is the window being made anew?
  };
  const KernelEntry& kernel;
  List<Both> passes;
  List<Part> parts;
  int64_t steps, window;  // of the longest row; of a window
  bool recompute;

  void add_parts(const List<Cursor>& cursors) {
    parts.reserve(cursors.size());
    for (const Cursor& cursor : cursors) enter(&parts.emplace_back(Part{cursor}), last_window());
  }

  static Need task(void* self, int part) {
    BackwardJob& job = *static_cast<BackwardJob*>(self);
    Part& at = job.parts[part];
    const Need need = at.anew ? job.kernel.forward(&at.both.again, &at.share, at.state, at.first)
                              : job.kernel.backward(&at.both.back, &at.share, at.state, at.first);
    at.first = need == Need::kEnd;
    return need == Need::kEnd ? job.go_on(&at) : need;
  }

  // What comes after the end of a pass over a window.
  Need go_on(Part* at) const {
    if (at->anew) {
      at->anew = false;
      return Need::kGroup;
    }
    if (at->window > 0) {
      enter(at, at->window - 1);
    } else {
      if (++at->pass == passes.size()) return Need::kEnd;
      enter(at, last_window());
    }
    return Need::kTeam;  // parts use each other's results and buffers
  }

  int64_t last_window() const { return steps > 0 ? (steps - 1) / window : 0; }

  void enter(Part* at, int64_t w) const {
    at->window = w;
    at->both = passes[at->pass];
    at->anew = recompute;
    BackwardPass& back = at->both.back;
    back.begin = w * window, back.end = std::min(back.begin + window, steps);
    if (!recompute) return;
    ForwardPass& again = at->both.again;
    again.begin = back.begin, again.end = back.end;
    again.saved.first_step = back.saved.first_step = back.begin;
    for (Sequence& q : again.states) q.first_step = back.begin;
    for (int k = 1; k < kMaxStates; ++k) back.states[k].first_step = back.begin;
  }
};

}  // namespace

void forward(const Weights& weights, const ForwardCall& call) {
  const Spec& spec = weights.spec();
  const KernelEntry& kernel = weights.kernel();
  Local local;
  const Problem p = check_inputs(spec, call);
  const Rows rows(spec, p, call.lengths, call.resets, local);
  check_forward(spec, p, call);

  const Team team([&](int threads) { return plan_forward(kernel, spec, p, rows.total, threads); });
  const Plan& plan = team.plan;
  const bool masked = !call.masks.empty();
  const ForwardNeeds needs(kernel, spec, p, plan, team.most_rows(rows), call.keep_tape, masked);
  char* const memory = local.workspace(needs.bytes(), spec.op);
  char* const inner = call.keep_tape ? call.tape.inner.data : memory;
  char* const states = memory + needs.inner;
  char* const scratch = states + needs.states;
  const Layers layers(spec, p, call, inner, local);
  const Tape tape{call.tape.states.data, call.tape.saved.data};
  const StateArrays initial(spec, p, call.initial), final(spec, p, call.final);
  const Elements e{spec.element_bytes};

  // A state that every step overwrites.
  const auto one_row = [&](void* at) { return Sequence{at, 0, spec.units, 1, 0}; };

  ForwardJob job{kernel, List<ForwardPass>(local.lists()),
                 cursors_of(team, rows, kernel.forward_state, local)};
  job.passes.reserve(static_cast<size_t>(spec.layers * spec.directions));
  for (int64_t l = 0; l < spec.layers; ++l)
    for (int64_t d = 0; d < spec.directions; ++d) {
      const int64_t index = l * spec.directions + d;
      ForwardPass& pass = job.passes.emplace_back();
      set_common(&pass, spec, p, rows, l, d);
      pass.x = layers.x[l];
      pass.mask = layers.mask[l];
      pass.states[0] = offset(layers.y[l], d * spec.units, e);
      for (int k = 1; k < spec.states; ++k)
        pass.states[k] = call.keep_tape ? tape.state(spec, p, k, index)
                                        : one_row(states + (k - 1) * p.B * spec.units * e.bytes);
      if (call.keep_tape) pass.saved = tape.save(spec, p, index);
      pass.initial = initial.pass(index, e);
      pass.final = final.pass(index, e);
      pass.w = weights.gate_panels(index);
      pass.chunk = plan.chunk;
      pass.scratch = scratch;
      pass.scratch_stride = needs.scratch.stride;
    }
  run_job({plan.threads(), plan.unit_members, &job, ForwardJob::task});
}

void backward(const Weights& weights, const BackwardCall& call) {
  const Spec& spec = weights.spec();
  const KernelEntry& kernel = weights.kernel();
  Local local;
  const Problem p = check_inputs(spec, call);
  const Rows rows(spec, p, call.lengths, call.resets, local);
  check_backward(spec, p, call);

  const bool masked = !call.masks.empty(), anew = makes_anew(spec, p);
  const Team team([&](int threads) { return plan_backward(kernel, spec, p, rows.total, threads); });
  const Plan& plan = team.plan;
  const BackwardNeeds needs(kernel, spec, p, plan, team.most_rows(rows), rows.total, masked);
  char* const memory = local.workspace(needs.bytes(), spec.op);
  char* const shared = memory + needs.between * needs.between_count;
  char* const window = shared + needs.shared;
  char* const scratch = window + needs.again;
  char* const again_scratch = scratch + needs.scratch.bytes;
  const Strided dy_given(spec, call.dy, true);
  const Strided dx_given = call.dx.given ? Strided(spec, call.dx) : Strided();
  const Layers layers(spec, p, call, call.tape.inner.data, local);
  const Tape tape{call.tape.states.data, call.tape.saved.data};
  const StateArrays initial(spec, p, call.initial), dfinal(spec, p, call.dfinal),
      dinitial(spec, p, call.dinitial);
  const Elements e{spec.element_bytes};
  BackwardJob job{kernel,
                  List<BackwardJob::Both>(local.lists()),
                  List<BackwardJob::Part>(local.lists()),
                  rows.longest(),
                  needs.window.steps,
                  anew};
  job.passes.reserve(static_cast<size_t>(spec.layers * spec.directions));
  Sequence dy = sequence_of(dy_given, p);
  for (int64_t l = spec.layers - 1; l >= 0; --l) {
    const Sequence dx = l == 0 ? sequence_of(dx_given, p)
                               : dense(memory + (l % needs.between_count) * needs.between, p,
                                       spec.directions * spec.units);
    for (int64_t d = 0; d < spec.directions; ++d) {
      const int64_t index = l * spec.directions + d;
      auto& [again, pass] = job.passes.emplace_back();
      set_common(&pass, spec, p, rows, l, d);
      pass.x = layers.x[l];
      pass.mask = layers.mask[l];
      pass.states[0] = offset(layers.y[l], d * spec.units, e);
      for (int k = 1; k < spec.states; ++k) pass.states[k] = tape.state(spec, p, k, index);
      for (int k = 0; k < spec.states; ++k) pass.entering[k] = pass.states[k];
      pass.saved = tape.save(spec, p, index);
      pass.initial = initial.pass(index, e);
      pass.dy = offset(dy, d * spec.units, e);
      pass.dfinal = dfinal.pass(index, e);
      pass.dinitial = dinitial.pass(index, e);
      pass.dx = dx;
      pass.accumulate_dx = d == 1;
      if (!call.dparameters.empty()) {
        const View* grads = call.dparameters.data() + index * spec.params_per_pass();
        pass.dw_ih = grads[0].data;
        pass.dw_hh = grads[1].data;
        if (spec.bias) pass.db_ih = grads[2].data, pass.db_hh = grads[3].data;
      }
      pass.w = weights.matrix_panels(index);
      pass.chunk = std::min(plan.chunk, needs.window.steps);
      pass.shared = shared;
      pass.scratch = scratch;
      pass.scratch_stride = needs.scratch.stride;
      if (!anew) continue;

      set_common(&again, spec, p, rows, l, d);
      set_window(&again, &pass, spec, p, needs.window, window);
      again.w = weights.gate_panels(index);
      again.scratch = again_scratch;
      again.scratch_stride = needs.again_scratch.stride;
    }
    dy = dx;
  }
  const int64_t state = std::max(kernel.backward_state, anew ? kernel.forward_state : 0);
  job.add_parts(cursors_of(team, rows, state, local));
  run_job({plan.threads(), plan.unit_members, &job, BackwardJob::task});
}

Usage forward_usage(const Weights& weights, const Problem& p, bool keep_tape) {
  const Spec& spec = weights.spec();
  const Plan plan = plan_forward(weights.kernel(), spec, p, p.T * p.B, available_threads());
  const int64_t rows = (p.B + plan.row_groups - 1) / plan.row_groups;
  return {plan, ForwardNeeds(weights.kernel(), spec, p, plan, rows, keep_tape, false).bytes()};
}

Usage backward_usage(const Weights& weights, const Problem& p) {
  const Spec& spec = weights.spec();
  const int64_t total = p.T * p.B;
  const Plan plan = plan_backward(weights.kernel(), spec, p, total, available_threads());
  const int64_t rows = (p.B + plan.row_groups - 1) / plan.row_groups;
  return {plan, BackwardNeeds(weights.kernel(), spec, p, plan, rows, total, false).bytes()};
}

}  // namespace fastrnn
