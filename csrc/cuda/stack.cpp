#include "stack.h"

#include "../core/dtype.h"
#include "../core/error.h"
#include "../core/validate.h"

namespace fastrnn {
namespace gpu {

namespace {

Storage storage_of(ElementType type) {
  if (type.kind == 'B') return Storage::kBfloat16;
  return type.bytes == 8 ? Storage::kDouble : type.bytes == 4 ? Storage::kFloat : Storage::kHalf;
}

}  // namespace

Stack make_stack(const std::string& dtype, const Spec& sizes) {
  const ElementType type = dtype_named(sizes.op, dtype);
  const KernelSet& kernels = find_kernels(sizes.op, storage_of(type), sizes.projection > 0);
  Stack stack{sizes, &kernels};
  Spec& spec = stack.spec;
  spec.element_bytes = static_cast<int>(type.bytes), spec.kind = type.kind;
  spec.gates = kernels.gates, spec.states = kernels.states, spec.saved = kernels.saved;
  spec.split_gates = kernels.split_gates, spec.second_gates = kernels.second_gates;
  set_cell(parse_cell_name(spec.op), &spec);
  check_spec(spec);
  return stack;
}

}  // namespace gpu
}  // namespace fastrnn
