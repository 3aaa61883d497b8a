#include "kernels.h"

#include "../core/cell_name.h"
#include "../core/error.h"

namespace fastrnn {
namespace gpu {

#define FASTRNN_CUDA_KERNELS(cell) extern const KernelSet kernels_##cell[];
#include "cuda_kernel_list.inc"
#undef FASTRNN_CUDA_KERNELS

const std::vector<const KernelSet*>& all_kernel_sets() {
  static const std::vector<const KernelSet*> table = [] {
    std::vector<const KernelSet*> all;
    constexpr int kStorageTypes = 4;
    const auto add = [&](const KernelSet* of_cell) {
      for (int i = 0; i < kStorageTypes; ++i)
        if (of_cell[i].element_bytes) all.push_back(of_cell + i);
    };
#define FASTRNN_CUDA_KERNELS(cell) add(kernels_##cell);
#include "cuda_kernel_list.inc"
#undef FASTRNN_CUDA_KERNELS
    return all;
  }();
  return table;
}

const KernelSet& find_kernels(const std::string& cell, Storage storage, bool projected) {
  const std::string name = kernel_name(parse_cell_name(cell), projected);
  std::vector<std::string> names;
  bool is_wide = false;  // are there kernels for other storage types?
  for (const KernelSet* set : all_kernel_sets()) {
    if (name == set->cell && storage == set->storage) return *set;
    is_wide |= name == set->cell;
    if (storage == set->storage && has_own_kernel(set->cell)) names.push_back(set->cell);
  }
  if (is_wide)
    throw Error(Fault::kNotImplemented, cell,
                std::string("dtype must be float32 or float64 where functions are chosen, got ") +
                    (storage == Storage::kHalf ? "float16" : "bfloat16"));
  reject_cell(cell, projected, names);
}

}  // namespace gpu
}  // namespace fastrnn
