// How a call is cut: rows and units among threads, time into chunks. Nothing here changes a result.
#pragma once

#include <stdint.h>

#include "../core/problem.h"
#include "kernel_table.h"

namespace fastrnn {

struct Plan {
  const char* regime;  // what bounds a step: "arithmetic", "weight bandwidth" or "latency"
  int row_groups;      // the batch is split this many ways, and these never wait for each other
  int unit_members;    // so many parts share the rows of a group
  // How many of those run the recurrence: all, each for its own units, with a barrier after each
  // step; or one, while the others help with the products outside the recurrence.
  int recurrence_threads;
  int64_t chunk;        // steps whose gates are held at once
  double microseconds;  // what the model expects, at 3 GHz
  bool worth_a_team;    // would more threads be considered?

  int threads() const { return row_groups * unit_members; }
};

// total_steps: the sum of all lengths.
Plan plan_forward(const KernelEntry& kernel, const ProductEntry& product, const Spec& spec,
                  const Problem& problem, int64_t total_steps, int threads);
Plan plan_backward(const KernelEntry& kernel, const Spec& spec, const Problem& problem,
                   int64_t total_steps, int threads);

}  // namespace fastrnn
