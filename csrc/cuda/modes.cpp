#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <tuple>

#include "../core/error.h"
#include "mode.h"

namespace fastrnn {
namespace gpu {

namespace {

std::atomic<const Mode*> wanted_mode{nullptr};
std::atomic<bool> wanted_tf32{false};

// What plans depend on.
using Key = std::tuple<const KernelSet*, int, int64_t, int64_t, int64_t, int64_t, int, bool, bool,
                       bool, const Mode*>;
std::mutex mutex;
std::map<Key, Plan> kept;
std::map<int, int> refused_blocks;  // of each device the fewest

std::string names_of_modes() {
  std::string names = "best";
  for (const Mode* mode : modes()) names += std::string(", ") + mode->name();
  return names;
}

bool is_quicker(const Plan& plan, const Plan& other) {
  return plan.blocks && (!other.blocks || plan.microseconds < other.microseconds);
}

std::string words_of(const Plan& refused) {
  return std::string(refused.mode->name()) + " with " + std::to_string(refused.blocks) +
         " blocks at once, which this device has refused (it may give this process a part of its "
         "SMs: MPS, MIG, green contexts)";
}

// wanted: the one mode to consider, or null. Cooperative plans of so many blocks, or more, are
// known to be refused.
Plan quickest(const Work& work, const Mode* wanted, int refused_blocks) {
  Plan best, refused;
  for (const Mode* mode : modes()) {
    if (wanted && mode != wanted) continue;
    const Plan plan = mode->plan(work);
    Plan& other = plan.cooperative && plan.blocks >= refused_blocks ? refused : best;
    if (is_quicker(plan, other)) other = plan;
  }
  if (is_quicker(refused, best)) best.instead_of = words_of(refused);
  if (best.blocks) return best;
  if (refused.blocks)
    throw Error(Fault::kNotImplemented, work.op,
                std::string("the ") + refused.mode->name() +
                    " mode must have all its blocks on the device at once, got " +
                    words_of(refused));
  throw Error(Fault::kNotImplemented, work.op,
              std::string("the ") + (wanted ? wanted->name() : "best") +
                  " mode must fit on the device (" + (wanted ? wanted->limits() : "") +
                  "), got H = " + std::to_string(work.H) + " on " +
                  std::to_string(work.device.processors) + " SMs with " +
                  std::to_string(work.device.shared_per_block) + " bytes each");
}

// Plans depend on T by what comes once for all steps: a power of two stands for all up to the next.
Work with_round_steps(const Work& work) {
  Work rounded = work;
  for (rounded.T = 1; rounded.T <= work.T / 2;) rounded.T *= 2;
  return rounded;
}

}  // namespace

const std::vector<const Mode*>& modes() {
#define FASTRNN_MODE(name) &name##_mode(),
  static const std::vector<const Mode*> all = {
#include "modes.def"
  };
#undef FASTRNN_MODE
  return all;
}

const Mode* mode_in_use() { return wanted_mode; }

void use_mode(const std::string& name) {
  if (name == "best") {
    wanted_mode = nullptr;
    return;
  }
  for (const Mode* mode : modes())
    if (name == mode->name()) {
      wanted_mode = mode;
      return;
    }
  throw Error(Fault::kValue, "cuda", "mode must be one of " + names_of_modes() + ", got " + name);
}

bool tf32_in_use() { return wanted_tf32; }
void use_tf32(bool use) { wanted_tf32 = use; }

Plan plan_pass(const Work& exact) {
  const Work work = with_round_steps(exact);
  const Mode* wanted = wanted_mode;  // once: another thread may set it meanwhile
  constexpr size_t kMaxKept = 4096;
  const Key key{&work.kernels, work.device.index, work.T,        work.B,    work.H,
                work.P,        work.directions,   work.backward, work.tf32, work.can_be_recorded,
                wanted};
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = kept.find(key);
  if (found != kept.end()) return found->second;
  const auto refused = refused_blocks.find(work.device.index);
  const Plan plan =
      quickest(work, wanted, refused == refused_blocks.end() ? INT32_MAX : refused->second);
  if (kept.size() >= kMaxKept) kept.clear();
  return kept[key] = plan;
}

void refuse_blocks(const Device& device, int blocks) {
  const std::lock_guard<std::mutex> lock(mutex);
  int& fewest = refused_blocks.emplace(device.index, blocks).first->second;
  fewest = std::min(fewest, blocks);
  kept.clear();
}

}  // namespace gpu
}  // namespace fastrnn
