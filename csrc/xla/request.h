// What a call through XLA asks, beside its arrays: the cell's name and a list of numbers. Exported
// programs keep this list, so that new options are added at its end, where 0 means what was before.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "../core/call.h"

namespace fastrnn::xla {

enum Option {
  kKind,
  kLayers,
  kDirections,
  kBatchFirst,
  kReverse,
  kRepeatHeld,
  kRecompute,
  kGiven,  // a bit for each role: its arrays are in the call, where the table says that they may be
  kOptions
};
constexpr const char* kOptionNames[kOptions] = {
    "kind", "layers", "directions", "batch_first", "reverse", "repeat_held", "recompute", "given"};

struct Request {
  std::string cell;
  int64_t options[kOptions] = {};

  Request(std::string cell, const int64_t* values, int64_t count);

  Kind kind() const { return static_cast<Kind>(options[kKind]); }
  // Has the call arrays in a role that this kind of call uses so?
  bool has(Role role, Use use) const {
    const bool always = use == Use::kInput || use == Use::kOutput;
    return always || (use != Use::kNone && (options[kGiven] >> static_cast<int>(role) & 1));
  }
};

// What Python knows a role by: the field of its class Call that has it, or else the table's name.
inline const char* key_of(const RoleRule& rule) {
  return rule.field && rule.layout != Layout::kBlock ? rule.field : rule.names[0];
}

// What one of a call's arrays is: an item of a role.
struct Slot {
  const RoleRule* rule;
  int64_t item;
};
// Of so many arrays in these roles, of a cell with so many states. Throws Error where the count is
// not the one that the request needs.
std::vector<Slot> slots_of(const Request& request, const RoleList& roles, int64_t states,
                           size_t arrays);

// A call's arrays in the order of the table of roles: inputs, and results where there are any yet.
struct Arrays {
  std::vector<View> inputs, results;
};

// The call. Throws what slots_of() does; everything else is for the engine's own checks.
Call call_of(const Request& request, int64_t states, const Arrays& arrays);

}  // namespace fastrnn::xla
