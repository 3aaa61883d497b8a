// The table of kernels, and the level in use.
#pragma once

#include <string>
#include <vector>

#include "../core/dtype.h"
#include "../core/scheme.h"
#include "kernel_table.h"

namespace fastrnn {

const std::vector<const KernelEntry*>& all_kernels();
const std::vector<const ProductList*>& all_products();
// Cells that have a kernel of their own; names with functions of one's own are served as well.
std::vector<std::string> cell_names();
// Levels in ascending order: those in this build, and those of them that this processor can run.
std::vector<std::string> built_levels();
std::vector<std::string> usable_levels();

// The level in use: the highest usable one, at most FASTRNN_ISA. A name that is not built throws
// Error(kValue); a cap above what the processor has lowers nothing. use_level() takes usable ones
// only.
std::string level_in_use();
void use_level(const std::string& level);

// The kernels of the highest level, at most the one in use, that serves the element type;
// projected: those whose h is a projection. Throws Error: an unknown cell, one that is not built
// projected.
const KernelEntry& find_kernel(const std::string& cell, ElementType type, bool projected = false);
bool can_project(const std::string& cell);
// The products for such a kernel, of weights that are quantized in this way, or not: those of the
// highest level, at most the one in use. Throws Error: there are none in this build.
const ProductEntry& find_product(const KernelEntry& kernel, const WeightScheme* scheme);

}  // namespace fastrnn
