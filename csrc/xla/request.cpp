#include "request.h"

#include <algorithm>
#include <utility>

#include "../core/error.h"

namespace fastrnn::xla {

namespace {

// Hands out arrays one after the other.
class Reader {
 public:
  Reader(const Request& request, int64_t states) : request_(request), states_(states) {}

  void read(const RoleList& roles, const std::vector<View>& arrays, Call& call) {
    arrays_ = &arrays, next_ = 0;
    // Of one role the count is not known before: it is what the others leave.
    int64_t others = 0;
    for (const RoleRule* rule : roles)
      if (rule->each != Each::kParameter) others += count_of(*rule);
    parameters_ = static_cast<int64_t>(arrays.size()) - others;
    for (const RoleRule* rule : roles)
      for (int64_t i = 0, n = count_of(*rule); i < n; ++i) place(*rule, i, call);
    if (next_ != arrays.size()) reject();
  }

 private:
  const Request& request_;
  const int64_t states_;
  const std::vector<View>* arrays_ = nullptr;
  size_t next_ = 0;
  int64_t parameters_ = 0;

  int64_t count_of(const RoleRule& rule) const {
    if (!request_.has(rule.role, rule.use(request_.kind()))) return 0;
    switch (rule.each) {
      case Each::kCall: return 1;
      case Each::kState: return states_;
      case Each::kInnerLayer: return request_.options[kLayers] - 1;
      case Each::kParameter: break;
    }
    return parameters_;
  }
  void place(const RoleRule& rule, int64_t item, Call& call) {
    if (next_ >= arrays_->size()) reject();
    const View& view = (*arrays_)[next_++];
    if (rule.place.list)
      (call.*rule.place.list).push_back(view);
    else
      item_of(rule, item, call) = view;
  }
  [[noreturn]] void reject() const {
    throw Error(
        Fault::kValue, request_.cell,
        "arrays must be those that the options say, got " + std::to_string(arrays_->size()));
  }
};

}  // namespace

Request::Request(std::string name, const int64_t* values, int64_t count) : cell(std::move(name)) {
  std::copy_n(values, std::min<int64_t>(count, kOptions), options);
  if (options[kKind] < 0 || options[kKind] > static_cast<int64_t>(Kind::kBackward))
    throw Error(Fault::kValue, cell,
                "kind must be 0, 1 or 2, got " + std::to_string(options[kKind]));
  // Counts of arrays follow from it.
  if (options[kLayers] < 1 || options[kLayers] > (int64_t{1} << 20))
    throw Error(Fault::kValue, cell,
                "num_layers must be at least 1, got " + std::to_string(options[kLayers]));
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
  Reader reader(request, states);
  reader.read(inputs_of(call.kind), arrays.inputs, call);
  if (!arrays.results.empty()) reader.read(outputs_of(call.kind), arrays.results, call);
  return call;
}

}  // namespace fastrnn::xla
