#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "../core/cell_name.h"
#include "../core/error.h"
#include "cpuid.h"

namespace fastrnn {

#define FASTRNN_KERNEL(level, cell, element)            \
  namespace isa_##level {                               \
    extern const KernelEntry kernel_##cell##_##element; \
  }
#define FASTRNN_PRODUCTS(level, element)         \
  namespace isa_##level {                        \
    extern const ProductList products_##element; \
  }
#include "kernel_list.inc"
#undef FASTRNN_KERNEL
#undef FASTRNN_PRODUCTS

namespace {

// Index into levels(), -1 before the first use. No lock: a child of fork() could find it taken.
std::atomic<int> current_level{-1};

int index_of(const std::string& level) {
  for (size_t i = 0; i < levels().size(); ++i)
    if (level == levels()[i].name) return static_cast<int>(i);
  return -1;
}

bool same(const char* a, const char* b) { return std::strcmp(a, b) == 0; }

bool is_built(const char* level) {
  for (const ProductList* products : all_products())
    if (same(products->entries->level, level)) return true;
  return false;
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

int row_in_use() {
  if (current_level >= 0) return current_level;
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
  return current_level = level;
}

}  // namespace

const std::vector<const KernelEntry*>& all_kernels() {
  static const std::vector<const KernelEntry*> table = {
#define FASTRNN_KERNEL(level, cell, element) &isa_##level::kernel_##cell##_##element,
#define FASTRNN_PRODUCTS(level, element)
#include "kernel_list.inc"
#undef FASTRNN_KERNEL
#undef FASTRNN_PRODUCTS
  };
  return table;
}

const std::vector<const ProductList*>& all_products() {
  static const std::vector<const ProductList*> table = {
#define FASTRNN_KERNEL(level, cell, element)
#define FASTRNN_PRODUCTS(level, element) &isa_##level::products_##element,
#include "kernel_list.inc"
#undef FASTRNN_KERNEL
#undef FASTRNN_PRODUCTS
  };
  return table;
}

std::vector<std::string> cell_names() {
  std::vector<std::string> names;
  for (const KernelEntry* k : all_kernels())
    if (has_own_kernel(k->cell) && std::find(names.begin(), names.end(), k->cell) == names.end())
      names.push_back(k->cell);
  return names;
}

std::vector<std::string> built_levels() {
  std::vector<std::string> names;
  for (const Level& level : levels())
    if (is_built(level.name)) names.push_back(level.name);
  return names;
}

std::vector<std::string> usable_levels() {
  std::vector<std::string> names;
  for (const Level& level : levels())
    if (level.usable && is_built(level.name)) names.push_back(level.name);
  return names;
}

void use_level(const std::string& level) {
  const std::vector<std::string> usable = usable_levels();
  if (std::find(usable.begin(), usable.end(), level) == usable.end())
    throw Error(Fault::kValue, "isa",
                "level must be one that is built and that this processor has (" + join(usable) +
                    "), got " + level);
  current_level = index_of(level);
}

std::string level_in_use() { return levels()[static_cast<size_t>(row_in_use())].name; }

bool can_project(const std::string& cell) {
  const std::string name = kernel_name(parse_cell_name(cell), true);
  for (const KernelEntry* k : all_kernels())
    if (name == k->cell) return true;
  return false;
}

const KernelEntry& find_kernel(const std::string& cell, ElementType type, bool projected) {
  const std::string name = kernel_name(parse_cell_name(cell), projected);
  for (int row = row_in_use(); row >= 0; --row) {
    const Level& level = levels()[static_cast<size_t>(row)];
    if (!level.usable) continue;
    for (const KernelEntry* k : all_kernels())
      if (k->element_kind == type.kind && k->element_bytes == type.bytes && name == k->cell &&
          same(k->level, level.name))
        return *k;
  }
  reject_cell(cell, projected, cell_names());
}

const ProductEntry& find_product(const KernelEntry& kernel, const WeightScheme* scheme) {
  const char* const name = scheme ? scheme->name : "";
  const ProductEntry* found = nullptr;
  int row = -1;  // of what is found
  for (const ProductList* list : all_products())
    for (int i = 0; i < list->count; ++i) {
      const ProductEntry& p = list->entries[i];
      const int own = index_of(p.level);
      if (p.element_kind == kernel.element_kind && p.element_bytes == kernel.element_bytes &&
          p.lanes == kernel.lanes && same(p.scheme, name) && own <= row_in_use() && own > row &&
          levels()[static_cast<size_t>(own)].usable)
        found = &p, row = own;
    }
  if (found) return *found;
  throw Error(Fault::kNotImplemented, kernel.cell,
              std::string("this build must have products of ") + name + ", got none");
}

}  // namespace fastrnn
