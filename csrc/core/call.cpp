#include "call.h"

namespace fastrnn {

namespace {

constexpr Place one(View Call::* member) { return {member, nullptr, nullptr}; }
constexpr Place states(View (Call::*member)[kMaxStates]) { return {nullptr, member, nullptr}; }
constexpr Place list(std::vector<View> Call::* member) { return {nullptr, nullptr, member}; }

// What the roles are in calls that infer, go forward and go backward.
constexpr Uses kGiven{Use::kInput, Use::kInput, Use::kInput};
constexpr Uses kMayBeGiven{Use::kOptionalInput, Use::kOptionalInput, Use::kOptionalInput};
constexpr Uses kOutput{Use::kOutput, Use::kOutput, Use::kInput};
constexpr Uses kFinalState{Use::kOptionalOutput, Use::kOptionalOutput, Use::kNone};
constexpr Uses kTape{Use::kNone, Use::kOutput, Use::kInput};
constexpr Uses kGradient{Use::kNone, Use::kNone, Use::kInput};
constexpr Uses kGradientMayBeGiven{Use::kNone, Use::kNone, Use::kOptionalInput};
constexpr Uses kMade{Use::kNone, Use::kNone, Use::kOutput};
constexpr Uses kMadeIfWanted{Use::kNone, Use::kNone, Use::kOptionalOutput};

}  // namespace

// clang-format off
const RoleRule kRoles[kRoleCount] = {
    // inputs of both passes
    {Role::kX, {"x"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     kGiven, one(&Call::x), "x"},
    {Role::kInitial, {"h0", "c0"}, Each::kState, ElementRule::kState, Layout::kAny,
     kMayBeGiven, states(&Call::initial), "state"},
    {Role::kLengths, {"lengths"}, Each::kCall, ElementRule::kInteger, Layout::kAny,
     kMayBeGiven, one(&Call::lengths), "lengths"},
    {Role::kResets, {"resets"}, Each::kCall, ElementRule::kBool, Layout::kAny,
     kMayBeGiven, one(&Call::resets), "resets"},
    {Role::kHolds, {"holds"}, Each::kCall, ElementRule::kBool, Layout::kAny,
     kMayBeGiven, one(&Call::holds), "holds"},
    {Role::kBatchSizes, {"batch_sizes"}, Each::kCall, ElementRule::kInteger, Layout::kAny,
     kMayBeGiven, one(&Call::batch_sizes), "batch_sizes"},
    {Role::kRecurrentMasks, {"recurrent_masks"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     kMayBeGiven, one(&Call::recurrent_masks), "recurrent_masks"},
    {Role::kMask, {"dropout mask {}"}, Each::kInnerLayer, ElementRule::kStorage, Layout::kAny,
     kMayBeGiven, list(&Call::masks), "masks"},
    {Role::kParameter, {"{}"}, Each::kParameter, ElementRule::kStorage, Layout::kAny,
     kMayBeGiven, list(&Call::parameters), nullptr},
    // what forward has made, and the gradients that come in
    {Role::kY, {"y", "y of the tape"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     kOutput, one(&Call::y), "y"},
    {Role::kFinal, {"hn", "cn"}, Each::kState, ElementRule::kState, Layout::kAny,
     kFinalState, states(&Call::final), nullptr},
    {Role::kInner, {"tape inner"}, Each::kCall, ElementRule::kStorage, Layout::kBlock,
     kTape, one(&Call::inner), "tape"},
    {Role::kStates, {"tape states"}, Each::kCall, ElementRule::kAccumulator, Layout::kBlock,
     kTape, one(&Call::states), "tape"},
    {Role::kSaved, {"tape saved"}, Each::kCall, ElementRule::kStorage, Layout::kBlock,
     kTape, one(&Call::saved), "tape"},
    {Role::kDy, {"dy"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     kGradient, one(&Call::dy), "dy"},
    {Role::kFinalGradient, {"dhn", "dcn"}, Each::kState, ElementRule::kState, Layout::kAny,
     kGradientMayBeGiven, states(&Call::dfinal), "dstate"},
    // what backward makes
    {Role::kInputGradient, {"dx"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     kMadeIfWanted, one(&Call::dx), nullptr},
    {Role::kInitialGradient, {"dh0", "dc0"}, Each::kState, ElementRule::kState, Layout::kAny,
     kMade, states(&Call::dinitial), nullptr},
    {Role::kParameterGradient, {"d{}"}, Each::kParameter, ElementRule::kStorage, Layout::kBlock,
     kMadeIfWanted, list(&Call::dparameters), nullptr},
};
// clang-format on

namespace {

struct Lists {
  RoleList inputs[3], outputs[3];
  Lists() {
    for (const Kind kind : {Kind::kInfer, Kind::kForward, Kind::kBackward})
      for (const RoleRule& rule : kRoles) {
        const Use use = rule.use(kind);
        if (is_input(use)) inputs[static_cast<int>(kind)].push_back(&rule);
        if (is_output(use)) outputs[static_cast<int>(kind)].push_back(&rule);
      }
  }
};

const Lists& lists() {
  static const Lists all;
  return all;
}

}  // namespace

const RoleList& inputs_of(Kind kind) { return lists().inputs[static_cast<int>(kind)]; }
const RoleList& outputs_of(Kind kind) { return lists().outputs[static_cast<int>(kind)]; }

StepInputs step_inputs(const Problem& p, const Call& call) {
  const auto flags = [&](const View& view) -> StepFlags {
    if (!view.given || p.T == 0 || p.B == 0) return {nullptr, 0, 0};
    return {reinterpret_cast<const uint8_t*>(view.data), view.strides[p.time_axis()],
            p.batched ? view.strides[p.batch_axis()] : 0};
  };
  return {flags(call.resets), flags(call.holds), call.repeat_held};
}

const RoleRule& rule_of(Role role) { return kRoles[static_cast<int>(role)]; }

std::string name_of(const RoleRule& rule, const Spec& spec, Kind kind, int64_t item) {
  if (rule.each == Each::kState) return rule.names[item];
  const bool other = kind == Kind::kBackward && rule.names[1];
  std::string name = rule.names[other ? 1 : 0];
  const size_t hole = name.find("{}");
  if (hole == std::string::npos) return name;
  const std::string of = rule.each == Each::kParameter
                             ? parameters_of(spec)[static_cast<size_t>(item)].name
                             : std::to_string(item);
  return name.replace(hole, 2, of);
}

ElementType type_of_role(const RoleRule& rule, const Spec& spec, int64_t item) {
  if (rule.role == Role::kParameter) return parameter_type(spec, item);
  return is_accumulator(rule, item) ? spec.accumulator() : spec.element();
}

}  // namespace fastrnn
