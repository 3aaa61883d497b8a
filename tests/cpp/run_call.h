// A call as a binding makes it: x and the rows that run give the problem.
#pragma once

#include "core/validate.h"
#include "cpu/engine.h"

inline fastrnn::Problem problem_of(const fastrnn::Weights& weights, const fastrnn::Call& call) {
  return fastrnn::check_rows(weights.spec(), call);
}

inline void run_call(const fastrnn::Weights& weights, const fastrnn::Call& call) {
  fastrnn::run(weights, problem_of(weights, call), call);
}
