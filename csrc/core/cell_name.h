// The names of cells: `base`, or `base(f1, f2, ..., clip=c, state=low:high)` with functions and
// clips of one's own. Python's fastrnn.cell_name makes them, and its _cell_names.py reads them too.
#pragma once

#include <string>
#include <vector>

#include "../cells/maths.h"

namespace fastrnn {

// What a name says.
struct CellName {
  std::string kernel;         // of cells/registry.h; empty: there is none for this name
  int unit_parameters;        // K, those that a layer has of each unit; the kernel may have more
  bool directions_differ;     // has each direction functions of its own?
  CellMaths of_direction[2];  // what is chosen, where the kernel does not have it itself
  bool bounded[2];            // as Spec has it
};

// Throws Error(kValue) where brackets hold no functions of a base.
CellName parse_cell_name(const std::string& name);

// The line of cells/registry.h that serves a cell's layers, of which h may be projected.
std::string kernel_name(const CellName& cell, bool projected);
// Of an engine that has no such kernel, but has those of the cells with these names: throws
// Error(kNotImplemented) where it is the projection that the cell lacks, else Error(kValue).
[[noreturn]] void reject_cell(const std::string& cell, bool projected,
                              const std::vector<std::string>& names);

// Is there a kernel for this name alone?
bool has_own_kernel(const std::string& name);

}  // namespace fastrnn
