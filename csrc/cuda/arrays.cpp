#include "arrays.h"

#include "device.h"

namespace fastrnn {
namespace gpu {

Arrays::Arrays(const Stack& stack, const Call& call, const Problem& problem, const Program& program,
               const Numbers& numbers, const std::vector<View>& scratch, int first_scratch)
    : stack_(stack), call_(call), p_(problem), program_(program) {
  size_t next = 0;
  for (const Buffer& buffer : program.buffers) {
    if (buffer.scratch) {
      const View& view = scratch[next];
      placed_.push_back({view.data, first_scratch + static_cast<int>(next), 0, &view});
      ++next;
    } else {
      placed_.push_back(place(buffer, numbers));
    }
  }
}

Arrays::Placed Arrays::place(const Buffer& buffer, const Numbers& numbers) const {
  const bool tape =
      buffer.role == Role::kInner || buffer.role == Role::kStates || buffer.role == Role::kSaved;
  const Views items = items_of(rule_of(buffer.role), stack_.spec, call_);
  const View* view = items.first + (tape ? 0 : buffer.item);
  Placed placed{view->data, numbers.of(buffer.role, tape ? 0 : buffer.item), 0, view};
  if (buffer.role != Role::kInner) return placed;
  placed.row = buffer.item * p_.T * p_.B;
  placed.data += placed.row * stack_.spec.layer_outputs() * view->itemsize;
  return placed;
}

Operand Arrays::operand(const Matrix& m) const {
  const Placed& placed = of(m.buffer);
  return {placed.array, placed.row + m.row, m.rows, m.column, m.columns};
}

int64_t Arrays::bytes(int buffer) const {
  return elements_of(buffer_of(buffer).shape) * of(buffer).view->itemsize;
}

RowView Arrays::rows(int buffer, int64_t column) const {
  if (buffer == kNoBuffer) return {};
  const Placed& placed = of(buffer);
  const View& view = *placed.view;
  char* base = placed.data + column * view.itemsize;
  if (buffer_of(buffer).as_x) {
    // A size of 1 may have any stride.
    const int64_t batch = p_.batched ? view.strides[p_.batch_axis()] : 0;
    return {base, view.strides[p_.time_axis()] / view.itemsize, batch / view.itemsize};
  }
  const Shape& shape = buffer_of(buffer).shape;
  const int64_t width = shape[shape.size() - 1];
  return {base, p_.B * width, width};
}

// From so many steps on, of B rows of this width.
RowView Arrays::part(int buffer, int64_t steps, int64_t width) const {
  const Placed& placed = of(buffer);
  return {placed.data + steps * p_.B * width * placed.view->itemsize, p_.B * width, width};
}

// State k of a pass: of the tape (S - 1, L, D, steps, B, H), or of a window, with one layer.
RowView Arrays::states(int buffer, const Recurrence& r, int64_t d, int k) const {
  const Shape& shape = buffer_of(buffer).shape;
  const int64_t layers = shape[1], D = shape[2], steps = shape[3];
  const int64_t layer = buffer_of(buffer).scratch ? 0 : r.layer;
  return part(buffer, (((k - 1) * layers + layer) * D + d) * steps, stack_.spec.units);
}

// Likewise (L, D, steps, B, saved * H).
RowView Arrays::saved(const Recurrence& r, int64_t d) const {
  const Shape& shape = buffer_of(r.saved).shape;
  const int64_t layer = buffer_of(r.saved).scratch ? 0 : r.layer;
  const int64_t width = stack_.spec.saved * stack_.spec.units;
  return part(r.saved, (layer * shape[1] + d) * shape[2], width);
}

// Of an array (L * D, B, n), for state k of n values.
char* Arrays::state_of_pass(const View& view, int64_t layer, int64_t d, int k) const {
  if (!view.given) return nullptr;
  return view.data + stack_.spec.pass(layer, d) * p_.B * stack_.spec.state_width(k) * view.itemsize;
}

const void* Arrays::parameter(const Recurrence& r, int64_t d, int kind) const {
  if (!stack_.spec.has(kind)) return nullptr;
  return call_.parameters[static_cast<size_t>(stack_.spec.parameter(r.layer, d, kind))].data;
}

RowSteps Arrays::steps() const {
  RowSteps steps{};
  steps.T = p_.T, steps.B = p_.B;
  if (call_.lengths.given) {
    steps.length = call_.lengths.data;
    steps.length_stride = call_.lengths.strides[0];
    steps.length_bytes = static_cast<int>(call_.lengths.itemsize);
    steps.length_signed = call_.lengths.kind == 'i';
  }
  steps.inputs = step_inputs(p_, call_);
  steps.error = device_error(call_.x.device);
  return steps;
}

template <class P> P Arrays::begin(const Recurrence& r) const {
  P pass{};
  pass.scan = steps();
  pass.H = stack_.spec.units, pass.P = stack_.spec.outputs();
  pass.directions = static_cast<int>(stack_.spec.directions);
  pass.begin = r.begin, pass.end = r.end;
  return pass;
}

// What both kinds have: weights, h, states, saved values, and the states that come in.
template <class P, class D>
void Arrays::fill(const Recurrence& r, int64_t d, const P& pass, D* out) const {
  out->reverse = call_.is_reversed(d);
  out->before = before(d);
  out->w_hh = parameter(r, d, kWeightHh);
  out->w_diag = parameter(r, d, kWeightDiag);
  out->maths = stack_.spec.maths[d];
  out->h = rows(r.output, d * stack_.spec.outputs());
  for (int k = 0; k < stack_.spec.states; ++k)
    out->initial[k] = state_of_pass(call_.initial[k], r.layer, d, k);
  for (int k = 1; k < stack_.spec.states; ++k) {
    if (r.states != kNoBuffer) out->state[k] = states(r.states, r, d, k);
    if (pass.begin == 0) continue;
    const RowView kept = states(r.checkpoints, r, d, k);
    const int64_t place = pass.begin / p_.recompute - 1;
    out->entering[k] =
        static_cast<char*>(kept.base) + place * kept.t_stride * of(r.checkpoints).view->itemsize;
  }
  if (r.saved != kNoBuffer) out->saved = saved(r, d);
}

ForwardPass Arrays::forward(const Scan& scan) const {
  auto pass = begin<ForwardPass>(scan);
  pass.state_every = scan.recompute || !p_.recompute ? 1 : p_.recompute;
  pass.recompute = scan.recompute;
  for (int64_t d = 0; d < stack_.spec.directions; ++d) {
    ForwardDirection& out = pass.direction[d];
    fill(scan, d, pass, &out);
    out.b_ih = parameter(scan, d, kBiasIh);
    out.b_hh = parameter(scan, d, kBiasHh);
    out.x = rows(scan.gates[d]);
    for (int k = 0; k < stack_.spec.states && !scan.recompute; ++k)
      out.final[k] = state_of_pass(call_.final[k], scan.layer, d, k);
  }
  return pass;
}

BackwardPass Arrays::backward(const ScanBackward& scan, const View& dstate) const {
  auto pass = begin<BackwardPass>(scan);
  const int64_t D = stack_.spec.directions, each = p_.B * stack_.spec.widest_state();
  for (int64_t d = 0; d < D; ++d) {
    BackwardDirection& out = pass.direction[d];
    fill(scan, d, pass, &out);
    out.dy = rows(scan.dy, d * stack_.spec.outputs());
    out.dgates = rows(scan.dgates[d]);
    out.v = rows(scan.v[d]), out.dprojected = rows(scan.dprojected[d]);
    for (int k = 0; k < stack_.spec.states; ++k) {
      out.dfinal[k] = state_of_pass(call_.dfinal[k], scan.layer, d, k);
      out.dinitial[k] = state_of_pass(call_.dinitial[k], scan.layer, d, k);
      out.dstate[k] = dstate.data + (k * D + d) * each * dstate.itemsize;
    }
  }
  return pass;
}

CopyPass Arrays::copy(const Copy& copy) const {
  const bool of_steps_before = copy.rule == CopyRule::kBefore;
  const Shape& shape = buffer_of(copy.to).shape;
  CopyPass pass{};
  pass.scan = steps();
  pass.H = shape[shape.size() - 1];
  pass.begin = copy.begin, pass.end = copy.end;
  pass.rule = copy.rule;
  pass.reverse = call_.is_reversed(copy.direction);
  pass.before = before(copy.direction);
  pass.h = rows(copy.from, of_steps_before ? copy.direction * stack_.spec.outputs() : 0);
  pass.mask = rows(copy.mask);
  pass.to = rows(copy.to);
  if (of_steps_before)
    pass.initial[0] = state_of_pass(call_.initial[0], copy.layer, copy.direction, 0);
  return pass;
}

}  // namespace gpu
}  // namespace fastrnn
