#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <iterator>

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

// Index into kLevels, -1 before the first use. No lock: a child of fork() could find it taken.
std::atomic<int> current_level{-1};

int index_of(const std::string& level) {
  for (int i = 0; i < static_cast<int>(std::size(kLevels)); ++i)
    if (level == kLevels[i]) return i;
  return -1;
}

// What FASTRNN_ISA says, in small letters and without blanks around it; empty where it says
// nothing.
std::string cap_of_environment() {
  const char* text = std::getenv("FASTRNN_ISA");
  std::string name = text ? text : "";
  constexpr char kBlanks[] = " \t\r\n";
  name.erase(0, name.find_first_not_of(kBlanks));
  name.erase(name.find_last_not_of(kBlanks) + 1);
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return name;
}

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
  current_level = index_of(level);
}

std::string level_in_use() {
  if (current_level < 0) {
    const std::vector<std::string> usable = usable_levels();
    if (usable.empty())
      throw Error(Fault::kRuntime, "isa", "this build has no level that this processor can run");
    int level = index_of(usable.back());
    const std::string cap = cap_of_environment();
    if (!cap.empty()) {
      const std::vector<std::string> built = built_levels();
      if (std::find(built.begin(), built.end(), cap) == built.end())
        throw Error(Fault::kValue, "isa",
                    "FASTRNN_ISA must be one of " + join(built) + ", got " + cap);
      level = index_of(usable.front());
      for (const std::string& each : usable)
        if (index_of(each) <= index_of(cap)) level = index_of(each);
    }
    current_level = level;
  }
  return kLevels[current_level];
}

const KernelEntry& find_kernel(const std::string& cell, int element_bytes) {
  const std::string level = level_in_use();
  for (const KernelEntry* k : all_kernels())
    if (cell == k->cell && level == k->level && k->element_bytes == element_bytes) return *k;
  throw Error(Fault::kValue, "cell", "cell must be one of " + join(cell_names()) + ", got " + cell);
}

}  // namespace fastrnn
