// A call cut to size: its program, how many steps its passes hold at once, and its workspace.
#pragma once

#include "../core/program.h"
#include "call_memory.h"
#include "engine.h"
#include "kernel_table.h"
#include "plan.h"

namespace fastrnn {

// What of the batch the sizes depend on.
struct BatchSizes {
  int64_t steps;           // of the longest row
  int64_t total;           // of all rows
  int64_t max_rows;        // of a group that shares rows
  int64_t fewest;          // rows of the last step
  const int64_t* offsets;  // of packed arrays, see Sequence
};

// Memory of the kernels, so many bytes for each member of the team.
struct MemberScratch {
  int64_t offset = 0, stride = 0;
};

struct Prepared {
  int64_t window;  // steps that backward recomputes at once, or all
  Program program;
  int64_t max_rows;                             // as BatchSizes has it
  int64_t forward_rows = 0, backward_rows = 0;  // chunk_rows of the passes

  // The workspace, by offsets.
  List<int64_t> buffers;  // of the program; 0 for arrays of the caller's
  int64_t states = 0;     // the cell state of a forward pass that no tape keeps
  int64_t shared = 0;     // by all members in a backward pass
  MemberScratch forward, backward;
  int64_t bytes = 0;

  Prepared(const Weights& weights, const Problem& problem, const Call& call, const Plan& plan,
           const BatchSizes& batch, std::pmr::memory_resource* memory);
};

// Of either kind of pass.
Plan plan_pass(const Weights& weights, const Problem& problem, bool backward, int64_t total_steps,
               int threads);

}  // namespace fastrnn
