#include "kernels.h"

#include "../core/cell_name.h"
#include "../core/error.h"

namespace fastrnn {
namespace gpu {

#define FASTRNN_NO_CUDA_KERNELS(cell)
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
#undef FASTRNN_NO_CUDA_KERNELS

namespace {

// Cells that the CPU's engine alone has.
bool is_elsewhere(const std::string& cell) {
#define FASTRNN_CUDA_KERNELS(name)
#define FASTRNN_NO_CUDA_KERNELS(name) \
  if (cell == #name) return true;
#include "cuda_kernel_list.inc"
#undef FASTRNN_NO_CUDA_KERNELS
#undef FASTRNN_CUDA_KERNELS
  return false;
}

}  // namespace

const KernelSet& find_kernels(const std::string& cell, Storage storage) {
  const std::string kernel = parse_cell_name(cell).kernel;
  std::vector<std::string> names;
  bool is_wide = false;  // are there kernels for other storage types?
  for (const KernelSet* set : all_kernel_sets()) {
    if (kernel == set->cell && storage == set->storage) return *set;
    is_wide |= kernel == set->cell;
    if (storage == set->storage && has_own_kernel(set->cell)) names.push_back(set->cell);
  }
  if (is_wide)
    throw Error(Fault::kNotImplemented, cell,
                std::string("dtype must be float32 or float64 where functions are chosen, got ") +
                    (storage == Storage::kHalf ? "float16" : "bfloat16"));
  if (is_elsewhere(kernel))
    throw Error(Fault::kNotImplemented, cell, "device must be cpu for this cell, got cuda");
  reject_cell(cell, false, names);
}

}  // namespace gpu
}  // namespace fastrnn
