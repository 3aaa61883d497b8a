#include "request.h"

#include <algorithm>
#include <utility>

#include "../core/error.h"

namespace fastrnn::xla {

Request::Request(std::string name, const int64_t* values, int64_t count) : cell(std::move(name)) {
  std::copy_n(values, std::min<int64_t>(count, kOptions), options);
  const auto reject = [&](const char* rule, int64_t got) {
    throw Error(Fault::kValue, cell, rule + std::to_string(got));
  };
  for (int64_t i = kOptions; i < count; ++i)  // of a later fastrnn
    if (values[i] != 0) reject("options must be those that this fastrnn knows, got ", values[i]);
  if (options[kKind] < 0 || options[kKind] > static_cast<int64_t>(Kind::kBackward))
    reject("kind must be 0, 1 or 2, got ", options[kKind]);
  // Counts of arrays follow from it.
  if (options[kLayers] < 1 || options[kLayers] > (int64_t{1} << 20))
    reject("num_layers must be at least 1, got ", options[kLayers]);
}

std::vector<Slot> slots_of(const Request& request, const RoleList& roles, int64_t states,
                           size_t arrays) {
  const auto has = [&](const RoleRule& rule) {
    return request.has(rule.role, rule.use(request.kind()));
  };
  std::vector<Slot> slots;
  const auto add = [&](const RoleRule& rule, int64_t count) {
    for (int64_t i = 0; i < count; ++i) slots.push_back({&rule, i});
  };
  // How many parameters there are is known by what the others leave.
  const auto count_of = [&](const RoleRule& rule) -> int64_t {
    if (rule.each == Each::kParameter || !has(rule)) return 0;
    if (rule.each == Each::kInnerLayer) return request.options[kLayers] - 1;
    return rule.each == Each::kState ? states : 1;
  };
  auto parameters = static_cast<int64_t>(arrays);
  for (const RoleRule* rule : roles) parameters -= count_of(*rule);
  for (const RoleRule* rule : roles)
    add(*rule, rule->each == Each::kParameter && has(*rule) ? parameters : count_of(*rule));
  if (slots.size() != arrays)
    throw Error(Fault::kValue, request.cell,
                "arrays must be those that the options say, got " + std::to_string(arrays));
  return slots;
}

Call call_of(const Request& request, int64_t states, const Arrays& arrays) {
  Call call;
  call.kind = request.kind();
  call.batch_first = request.options[kBatchFirst] != 0;
  call.reverse = request.options[kReverse] != 0;
  call.repeat_held = request.options[kRepeatHeld] != 0;
  call.recompute = request.options[kRecompute];
  call.has_masks = request.has(Role::kMask, Use::kOptionalInput);
  call.whole_tape = true;
  const auto place = [&](const RoleList& roles, const std::vector<View>& views) {
    size_t next = 0;
    for (const Slot& slot : slots_of(request, roles, states, views.size())) {
      const View& view = views[next++];
      if (slot.rule->place.list)
        (call.*slot.rule->place.list).push_back(view);
      else
        item_of(*slot.rule, slot.item, call) = view;
    }
  };
  place(inputs_of(call.kind), arrays.inputs);
  if (!arrays.results.empty()) place(outputs_of(call.kind), arrays.results);
  return call;
}

}  // namespace fastrnn::xla
