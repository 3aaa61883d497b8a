#include "stack.h"

#include "../core/dtype.h"
#include "../core/error.h"
#include "../core/validate.h"

namespace fastrnn {
namespace gpu {

namespace {

Storage storage_of(const Dtype& dtype) {
  if (dtype.kind == 'B') return Storage::kBfloat16;
  return dtype.bytes == 8 ? Storage::kDouble : dtype.bytes == 4 ? Storage::kFloat : Storage::kHalf;
}

}  // namespace

Stack make_stack(const std::string& dtype, const Spec& sizes) {
  const Dtype* found = find_dtype(dtype);
  if (!found)
    throw Error(Fault::kType, sizes.op,
                "dtype must be float32, float64, float16 or bfloat16, got " + dtype);
  const KernelSet& kernels = find_kernels(sizes.op, storage_of(*found), sizes.projection > 0);
  Stack stack{sizes, &kernels};
  Spec& spec = stack.spec;
  spec.element_bytes = found->bytes, spec.kind = found->kind;
  spec.gates = kernels.gates, spec.states = kernels.states, spec.saved = kernels.saved;
  spec.split_gates = kernels.split_gates, spec.second_gates = kernels.second_gates;
  set_cell(parse_cell_name(spec.op), &spec);
  check_spec(spec);
  return stack;
}

}  // namespace gpu
}  // namespace fastrnn
