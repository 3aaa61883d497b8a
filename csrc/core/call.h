// A call: its arrays, each in a role, and the table of roles that says what each of them must be.
// Checks (validate.h), result shapes and bindings read the table, so that one more array of a call
// is one more row here.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "array.h"
#include "problem.h"
#include "schedule.h"
#include "shared.h"

namespace fastrnn {

enum class Kind { kInfer, kForward, kBackward };  // kForward keeps a tape, kInfer does not

// The arrays of a call. Those of a state are h's and, where the cell has one, the cell state's.
struct Call {
  Kind kind = Kind::kInfer;
  bool batch_first = false;
  bool reverse = false;      // the first direction reads from the last step to the first
  bool repeat_held = false;  // the output of a held step is that of the last one that ran, not 0
  int64_t recompute = 0;     // Problem::recompute of the tape
  bool has_masks = false;    // then there is one for each layer but the last
  // Must the tape's shapes depend on the sizes of x alone, and not on the values of lengths?
  bool whole_tape = false;

  View x, initial[kMaxStates], lengths, resets, holds, batch_sizes, recurrent_masks;
  std::vector<View> masks;
  std::vector<View> parameters;  // where an engine has not packed them before
  View y, final[kMaxStates];
  View inner, states, saved;  // the tape, with y
  View dy, dfinal[kMaxStates];
  View dx, dinitial[kMaxStates];
  std::vector<View> dparameters;

  bool backward() const { return kind == Kind::kBackward; }
  bool keep_tape() const { return kind == Kind::kForward; }
  // Does a direction read from the last step to the first? The second one goes against the first.
  bool is_reversed(int64_t direction) const { return (direction == 1) != reverse; }
};

enum class Role : uint8_t {
  kX,
  kInitial,
  kLengths,
  kResets,
  kHolds,
  kBatchSizes,
  kRecurrentMasks,
  kMask,
  kParameter,
  kY,
  kFinal,
  kInner,
  kStates,
  kSaved,
  kDy,
  kFinalGradient,
  kInputGradient,
  kInitialGradient,
  kParameterGradient
};
constexpr int kRoleCount = static_cast<int>(Role::kParameterGradient) + 1;

// How often a role stands in a call.
enum class Each : uint8_t { kCall, kState, kInnerLayer, kParameter };
// What its elements are: storage, the layer's dtype; accumulator, at least float32; state, storage
// for h and accumulator for the cell state.
enum class ElementRule : uint8_t { kStorage, kAccumulator, kState, kInteger, kBool };
// A block is in C order without gaps.
enum class Layout : uint8_t { kAny, kBlock };
enum class Use : uint8_t { kNone, kInput, kOptionalInput, kOutput, kOptionalOutput };

constexpr bool is_input(Use use) { return use == Use::kInput || use == Use::kOptionalInput; }
constexpr bool is_output(Use use) { return use == Use::kOutput || use == Use::kOptionalOutput; }

// Where a call has the arrays of a role: one of these.
struct Place {
  View Call::* one;
  View (Call::*states)[kMaxStates];
  std::vector<View> Call::* list;
};

// By the kind of a call.
struct Uses {
  Use infer, forward, backward;
};

struct RoleRule {
  Role role;
  // For messages: of each state, or else in forward and in backward where that has another; "{}"
  // stands for a layer or for a parameter's own name.
  const char* names[kMaxStates];
  Each each;
  ElementRule element;
  Layout layout;
  Uses uses;
  Place place;
  // Of Python's class Call (bindings/fields.h), the field that has it; null: made for the call.
  const char* field;

  Use use(Kind kind) const {
    return kind == Kind::kInfer     ? uses.infer
           : kind == Kind::kForward ? uses.forward
                                    : uses.backward;
  }
};
// In the order in which they are checked: inputs, then outputs.
extern const RoleRule kRoles[kRoleCount];

// The roles that a pass reads and those that it writes, in the table's order.
using RoleList = std::vector<const RoleRule*>;
const RoleList& inputs_of(Kind kind);
const RoleList& outputs_of(Kind kind);

// The items of a role in a call of this layer: of states, those that the cell has.
struct Views {
  const View* first;
  int64_t count;
  const View* begin() const { return first; }
  const View* end() const { return first + count; }
};
inline Views items_of(const RoleRule& rule, const Spec& spec, const Call& call) {
  if (rule.place.one) return {&(call.*rule.place.one), 1};
  if (rule.place.states) return {call.*rule.place.states, spec.states};
  const std::vector<View>& list = call.*rule.place.list;
  return {list.data(), static_cast<int64_t>(list.size())};
}
// One of them.
inline View& item_of(const RoleRule& rule, int64_t item, Call& call) {
  if (rule.place.one) return call.*rule.place.one;
  if (rule.place.states) return (call.*rule.place.states)[item];
  return (call.*rule.place.list)[static_cast<size_t>(item)];
}
std::string name_of(const RoleRule& rule, const Spec& spec, Kind kind, int64_t item);

// Is an array in a role laid out as x, by steps and rows?
constexpr bool is_sequence(Role role) {
  return role == Role::kX || role == Role::kInputGradient || role == Role::kY ||
         role == Role::kDy || role == Role::kMask;
}

// The units of the layers, and how many values their h has: as many, but for a projection.
template <class Size> struct Widths {
  Size H, P;
};

// The shape of an array of the tape: what stands before its rows, those, (steps, B) or packed, and
// what a row has.
template <class Size> BasicShape<Size> tape_shape(const BasicProblem<Size>& p,
                                                  BasicShape<Size> shape, const Size& packed_rows,
                                                  const Size& steps, const BasicShape<Size>& row) {
  shape.push_back(p.packed ? packed_rows : steps);
  if (!p.packed) shape.push_back(p.B);
  for (const Size& size : row) shape.push_back(size);
  return shape;
}

// The shape of an array in a role, of states that of one of them (item). Of parameters and their
// gradients see parameters_of().
//
// The tape: inner holds the outputs of the layers below the last, states the cell state after each
// step; with recompute, after scan steps k - 1, 2k - 1 ... and the last, and saved is empty.
// Packed, rows lie step by step, of each step those that run, longest first: inner by time, the
// others by scan step.
template <class Size> BasicShape<Size> role_shape(Role role, const Spec& spec,
                                                  const Widths<Size>& widths,
                                                  const BasicProblem<Size>& p, int64_t item = 0) {
  const Size L = spec.layers, D = spec.directions;
  const Size &H = widths.H, &P = widths.P;
  switch (role) {
    case Role::kX:
    case Role::kInputGradient: return p.sequence(spec.inputs);
    case Role::kLengths: return {p.B};
    case Role::kBatchSizes: return {p.T};
    case Role::kResets:
    case Role::kHolds: {
      BasicShape<Size> shape = p.sequence(Size(1));
      shape.pop_back();
      return shape;
    }
    case Role::kY:
    case Role::kDy:
    case Role::kMask: return p.sequence(D * P);
    case Role::kInitial:
    case Role::kFinal:
    case Role::kFinalGradient:
    case Role::kInitialGradient: {
      const Size& width = item == 0 ? P : H;
      return p.batched ? BasicShape<Size>{L * D, p.B, width} : BasicShape<Size>{L * D, width};
    }
    case Role::kRecurrentMasks: {
      BasicShape<Size> shape{L * D};
      if (p.masks_of_gates) shape.push_back(Size(spec.gates));
      if (p.batched) shape.push_back(p.B);
      shape.push_back(P);
      return shape;
    }
    case Role::kInner: return tape_shape(p, {spec.layers - 1}, p.rows, p.T, {D * P});
    case Role::kStates:
      return tape_shape(p, {spec.states - 1, L, D}, p.kept_rows, p.kept_steps(), {H});
    case Role::kSaved: {
      const Size none(0);
      return tape_shape(p, {L, D}, p.recompute ? none : p.rows, p.recompute ? none : p.T,
                        {spec.saved, H});
    }
    case Role::kParameter:
    case Role::kParameterGradient: break;
  }
  return {};
}
inline Shape role_shape(Role role, const Spec& spec, const Problem& p, int64_t item = 0) {
  return role_shape(role, spec, Widths<int64_t>{spec.units, spec.outputs()}, p, item);
}

// How many recurrent masks a row has in each pass: none, one for all gates, or one for each.
inline int64_t masks_of_row(const Spec& spec, const Problem& p, const Call& call) {
  return !call.recurrent_masks.given ? 0 : p.masks_of_gates ? spec.gates : 1;
}

// What the call's arrays say of single steps.
StepInputs step_inputs(const Problem& problem, const Call& call);

// Is an array in a role of accumulators? Item 0 of a state is h.
inline bool is_accumulator(const RoleRule& rule, int64_t item) {
  return rule.element == ElementRule::kAccumulator ||
         (rule.element == ElementRule::kState && item > 0);
}
ElementType type_of_role(const RoleRule& rule, const Spec& spec, int64_t item);
const RoleRule& rule_of(Role role);

}  // namespace fastrnn
