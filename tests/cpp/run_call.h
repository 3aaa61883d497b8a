// A call as a binding makes it: x gives the problem.
#pragma once

#include "core/validate.h"
#include "cpu/engine.h"

inline fastrnn::Problem problem_of(const fastrnn::Weights& weights, const fastrnn::Call& call) {
  return fastrnn::check_input(weights.spec(), call.x, call.batch_first, call.recompute);
}

inline void run_call(const fastrnn::Weights& weights, const fastrnn::Call& call) {
  fastrnn::run(weights, problem_of(weights, call), call);
}
