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
  // second_gates: those of them, the last ones, that a step's second product serves.
  int gates, second_gates, states, saved;
  unsigned split_gates;  // see core/planes.h
  // Bytes that a unit of the grid mode keeps for a whole pass.
  int forward_constants, backward_constants;

  // Null where the cell or the storage type has no grid mode.
  void (*grid_forward)(ForwardPass);
  void (*grid_backward)(BackwardPass);
  const char *grid_forward_name, *grid_backward_name;
  // Of each product of a step; the second null where there is one.
  void (*step_forward[kMaxProducts])(ForwardPass, int64_t);
  void (*step_backward[kMaxProducts])(BackwardPass, int64_t);

  int products() const { return step_forward[1] ? 2 : 1; }
};

// By storage type.
struct RowKernels {
  void (*copy_rows)(CopyPass);
  void (*lay_out_steps)(LayOutPass);
  void (*advance)(int32_t* replayed, int32_t by);
};
extern const RowKernels row_kernels[];

const std::vector<const KernelSet*>& all_kernel_sets();
// projected: those for a cell's layers whose h is projected. Throws Error: kValue for an unknown
// cell, kNotImplemented where it has no such kernels.
const KernelSet& find_kernels(const std::string& cell, Storage storage, bool projected);

}  // namespace gpu
}  // namespace fastrnn
