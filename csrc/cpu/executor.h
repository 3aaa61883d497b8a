// Executes the program of a call with the team of threads.
#pragma once

#include "batch.h"
#include "engine.h"
#include "prepare.h"
#include "threads.h"

namespace fastrnn {

// What is executed: a call whose arrays have been checked, cut to size.
struct Execution {
  const Weights& weights;
  const Call& call;
  const Problem& problem;
  const Batch& batch;
  const Threads& threads;
  const Prepared& prepared;
};

void execute(const Execution& execution, CallMemory& memory);

}  // namespace fastrnn
