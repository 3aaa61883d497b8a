#include "call.h"

namespace fastrnn {

#define FASTRNN_VIEWS(member) [](const Call& call) { return views_of(call.member); }

// clang-format off
const RoleRule kRoles[kRoleCount] = {
    // inputs of both passes
    {Role::kX, {"x"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     Use::kInput, Use::kInput, Use::kInput, FASTRNN_VIEWS(x)},
    {Role::kInitial, {"h0", "c0"}, Each::kState, ElementRule::kState, Layout::kAny,
     Use::kOptionalInput, Use::kOptionalInput, Use::kOptionalInput, FASTRNN_VIEWS(initial)},
    {Role::kLengths, {"lengths"}, Each::kCall, ElementRule::kInteger, Layout::kAny,
     Use::kOptionalInput, Use::kOptionalInput, Use::kOptionalInput, FASTRNN_VIEWS(lengths)},
    {Role::kResets, {"resets"}, Each::kCall, ElementRule::kBool, Layout::kAny,
     Use::kOptionalInput, Use::kOptionalInput, Use::kOptionalInput, FASTRNN_VIEWS(resets)},
    {Role::kMask, {"dropout mask {}"}, Each::kInnerLayer, ElementRule::kStorage, Layout::kAny,
     Use::kOptionalInput, Use::kOptionalInput, Use::kOptionalInput, FASTRNN_VIEWS(masks)},
    {Role::kParameter, {"{}"}, Each::kParameter, ElementRule::kStorage, Layout::kAny,
     Use::kOptionalInput, Use::kOptionalInput, Use::kOptionalInput, FASTRNN_VIEWS(parameters)},
    // what forward has made, and the gradients that come in
    {Role::kY, {"y", "y of the tape"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     Use::kOutput, Use::kOutput, Use::kInput, FASTRNN_VIEWS(y)},
    {Role::kFinal, {"hn", "cn"}, Each::kState, ElementRule::kState, Layout::kAny,
     Use::kOptionalOutput, Use::kOptionalOutput, Use::kNone, FASTRNN_VIEWS(final)},
    {Role::kInner, {"tape inner"}, Each::kCall, ElementRule::kStorage, Layout::kBlock,
     Use::kNone, Use::kOutput, Use::kInput, FASTRNN_VIEWS(inner)},
    {Role::kStates, {"tape states"}, Each::kCall, ElementRule::kAccumulator, Layout::kBlock,
     Use::kNone, Use::kOutput, Use::kInput, FASTRNN_VIEWS(states)},
    {Role::kSaved, {"tape saved"}, Each::kCall, ElementRule::kStorage, Layout::kBlock,
     Use::kNone, Use::kOutput, Use::kInput, FASTRNN_VIEWS(saved)},
    {Role::kDy, {"dy"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     Use::kNone, Use::kNone, Use::kInput, FASTRNN_VIEWS(dy)},
    {Role::kFinalGradient, {"dhn", "dcn"}, Each::kState, ElementRule::kState, Layout::kAny,
     Use::kNone, Use::kNone, Use::kOptionalInput, FASTRNN_VIEWS(dfinal)},
    // what backward makes
    {Role::kInputGradient, {"dx"}, Each::kCall, ElementRule::kStorage, Layout::kAny,
     Use::kNone, Use::kNone, Use::kOptionalOutput, FASTRNN_VIEWS(dx)},
    {Role::kInitialGradient, {"dh0", "dc0"}, Each::kState, ElementRule::kState, Layout::kAny,
     Use::kNone, Use::kNone, Use::kOutput, FASTRNN_VIEWS(dinitial)},
    {Role::kParameterGradient, {"d{}"}, Each::kParameter, ElementRule::kStorage, Layout::kBlock,
     Use::kNone, Use::kNone, Use::kOptionalOutput, FASTRNN_VIEWS(dparameters)},
};
// clang-format on
#undef FASTRNN_VIEWS

const RoleRule& rule_of(Role role) { return kRoles[static_cast<int>(role)]; }

std::string name_of(const RoleRule& rule, const Spec& spec, Pass pass, int64_t item) {
  if (rule.each == Each::kState) return rule.names[item];
  const bool other = pass == Pass::kBackward && rule.names[1];
  std::string name = rule.names[other ? 1 : 0];
  const size_t hole = name.find("{}");
  if (hole == std::string::npos) return name;
  const std::string of = rule.each == Each::kParameter
                             ? parameters_of(spec)[static_cast<size_t>(item)].name
                             : std::to_string(item);
  return name.replace(hole, 2, of);
}

int64_t role_bytes(const RoleRule& rule, const Spec& spec, int64_t item) {
  const bool sums = rule.element == ElementRule::kAccumulator ||
                    (rule.element == ElementRule::kState && item > 0);
  return sums ? spec.accumulator_bytes() : spec.element_bytes;
}

}  // namespace fastrnn
