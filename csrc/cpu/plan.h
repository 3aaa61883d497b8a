// How a call is cut: rows and units among threads, time into chunks. Nothing here changes a result.
#pragma once

#include <stdint.h>

#include "../core/problem.h"
#include "kernel_table.h"

namespace fastrnn {

struct Plan {
  const char* regime;   // what bounds a step: "arithmetic", "weight bandwidth" or "latency"
  int row_groups;       // the batch is split this many ways, and these never meet
  int unit_members;     // so many parts share the rows of a group
  int steppers;         // of them, who take the steps: all, each its units, and meet after each
                        // step; or one, and the others share what is not a step
  int64_t chunk;        // steps whose gates are held at once
  double microseconds;  // what the model expects, at 3 GHz
  bool worth_a_team;    // would more threads be considered?

  int threads() const { return row_groups * unit_members; }
};

// total_steps: the sum of all lengths.
Plan plan_forward(const KernelEntry& kernel, const Spec& spec, const Problem& problem,
                  int64_t total_steps, int threads);
Plan plan_backward(const KernelEntry& kernel, const Spec& spec, const Problem& problem,
                   int64_t total_steps, int threads);

}  // namespace fastrnn
