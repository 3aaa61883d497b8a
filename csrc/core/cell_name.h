// The names of cells: `base`, or `base(f1, f2, ..., clip=c, state=low:high)` with functions and
// clips of one's own. Python's fastrnn.cell_name makes them, and its _cell_names.py reads them too.
#pragma once

#include <string>

#include "../cells/maths.h"

namespace fastrnn {

// What a name says.
struct CellName {
  std::string kernel;         // of cells/registry.h; empty: there is none for this name
  int unit_parameters;        // K, those that a layer has of each unit; the kernel may have more
  bool directions_differ;     // has each direction functions of its own?
  CellMaths of_direction[2];  // what is chosen, where the kernel does not have it itself
};

// Throws Error(kValue) where brackets hold no functions of a base.
CellName parse_cell_name(const std::string& name);

// Is there a kernel for this name alone?
bool has_own_kernel(const std::string& name);
// The bases that have none, by commas; for messages.
std::string chosen_bases();

}  // namespace fastrnn
