#include "dispatch.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "cpuid.h"
#include "error.h"

namespace fastrnn {

#define FASTRNN_KERNEL(level, cell, element)            \
  namespace isa_##level {                               \
    extern const KernelEntry kernel_##cell##_##element; \
  }
#include "kernel_list.inc"
#undef FASTRNN_KERNEL

namespace {

const char* const kLevels[] = {"scalar", "avx2", "wide", "avx512"};

std::mutex level_mutex;
std::string current_level;

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

const std::vector<const KernelEntry*>& all_kernels() {
  static const std::vector<const KernelEntry*> table = {
#define FASTRNN_KERNEL(level, cell, element) &isa_##level::kernel_##cell##_##element,
#include "kernel_list.inc"
#undef FASTRNN_KERNEL
  };
  return table;
}

std::vector<std::string> cell_names() {
  std::vector<std::string> names;
  for (const KernelEntry* k : all_kernels())
    if (std::find(names.begin(), names.end(), k->cell) == names.end()) names.push_back(k->cell);
  return names;
}

std::vector<std::string> built_levels() {
  std::vector<std::string> levels;
  for (const char* level : kLevels)
    for (const KernelEntry* k : all_kernels())
      if (level == std::string(k->level)) {
        levels.push_back(level);
        break;
      }
  return levels;
}

std::vector<std::string> usable_levels() {
  std::vector<std::string> levels;
  for (const std::string& level : built_levels())
    if (cpu_has(level)) levels.push_back(level);
  return levels;
}

void use_level(const std::string& level) {
  const std::vector<std::string> usable = usable_levels();
  if (std::find(usable.begin(), usable.end(), level) == usable.end())
    throw Error(Fault::kValue, "isa",
                "level must be one that is built and that this processor has (" + join(usable) +
                    "), got " + level);
  std::lock_guard<std::mutex> lock(level_mutex);
  current_level = level;
}

std::string level_in_use() {
  std::lock_guard<std::mutex> lock(level_mutex);
  if (current_level.empty()) {
    const std::vector<std::string> usable = usable_levels();
    if (usable.empty())
      throw Error(Fault::kRuntime, "isa", "this build has no level that this processor can run");
    const char* cap = std::getenv("FASTRNN_ISA");
    if (!cap || !*cap) return current_level = usable.back();
    const auto rank = [](const std::string& level) {
      return std::find(std::begin(kLevels), std::end(kLevels), level) - std::begin(kLevels);
    };
    if (rank(cap) == std::end(kLevels) - std::begin(kLevels))
      throw Error(Fault::kValue, "isa",
                  "FASTRNN_ISA must be one of " + join(built_levels()) + ", got " + cap);
    current_level = usable.front();
    for (const std::string& level : usable)
      if (rank(level) <= rank(cap)) current_level = level;
  }
  return current_level;
}

const KernelEntry& find_kernel(const std::string& cell, int element_bytes) {
  const std::string level = level_in_use();
  for (const KernelEntry* k : all_kernels())
    if (cell == k->cell && level == k->level && k->element_bytes == element_bytes) return *k;
  throw Error(Fault::kValue, "cell", "cell must be one of " + join(cell_names()) + ", got " + cell);
}

}  // namespace fastrnn
