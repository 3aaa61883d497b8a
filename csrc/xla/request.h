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

// A call's arrays in the order of the table of roles: inputs, and results where there are any yet.
struct Arrays {
  std::vector<View> inputs, results;
};

// The call, of a cell with so many states. Throws Error where the count of arrays is not the one
// that the request needs; everything else is for the engine's own checks.
Call call_of(const Request& request, int64_t states, const Arrays& arrays);

}  // namespace fastrnn::xla
