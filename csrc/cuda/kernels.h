// The tables of kernels: of a cell for each storage type, made by kernel.cu.in; and of those that
// know no cell (rows.cu).
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "pass.h"

namespace fastrnn {
namespace gpu {

enum class Storage { kFloat, kDouble, kHalf, kBfloat16 };

struct KernelSet {
  const char* cell;
  Storage storage;
  int element_bytes;  // 0: no kernels for this storage type
  int gates, states, saved;
  unsigned split_gates;  // see core/planes.h

  // Null where the storage type has no grid mode. For passes whose rows always run, and for those
  // whose rows may be held.
  void (*grid_forward[2])(ForwardPass);
  void (*grid_backward[2])(BackwardPass);
  const char *grid_forward_name, *grid_backward_name;
  void (*step_forward)(ForwardPass, int64_t);
  void (*step_backward)(BackwardPass, int64_t);
};

// By storage type.
struct RowKernels {
  void (*copy_rows)(CopyPass);
  void (*lay_out_steps)(LayOutPass);
};
extern const RowKernels row_kernels[];

const std::vector<const KernelSet*>& all_kernel_sets();
// Throws Error(kValue) for an unknown cell.
const KernelSet& find_kernels(const std::string& cell, Storage storage);

}  // namespace gpu
}  // namespace fastrnn
