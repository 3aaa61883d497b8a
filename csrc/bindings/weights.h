// The CPU engine's weights as Python has them, and how calls on them run.
#pragma once

#include <unistd.h>

#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "../core/dtype.h"
#include "../core/validate.h"
#include "../cpu/engine.h"
#include "../cpu/team.h"
#include "array.h"
#include "fields.h"
#include "interpreter.h"

namespace fastrnn {

// The engine's weights, and the library whose arrays they came as: a call with them takes and gives
// the same.
struct PyWeights : Weights {
  using Weights::Weights;
  const dlpack::Exchange* exchange = nullptr;
  Caller caller() const { return {spec(), exchange}; }
};

inline std::unique_ptr<PyWeights> new_weights(const std::string& cell, const std::string& dtype,
                                              int64_t layers, int64_t directions, int64_t inputs,
                                              int64_t units, bool bias, int64_t projection = 0) {
  return std::make_unique<PyWeights>(cell, layer_type_named(cell, dtype), layers, directions,
                                     inputs, units, bias, projection);
}

// Runs the engine while other threads of Python go on; where it takes a few microseconds, letting
// them go on would take as long.
template <class Run> void run_engine(const Spec& spec, double work, Run run) {
  constexpr double kWorthALock = 2e6;
  std::optional<OthersGoOn> others;
  if (work > kWorthALock) others.emplace();
  try {
    run();
  } catch (const Interrupted&) {
    others.reset();
    throw py::error_already_set();
  } catch (const std::bad_alloc&) {  // of the engine's own lists
    throw Error(Fault::kMemory, spec.op, "memory for the call must be available, got none");
  }
}

// Ctrl-C: runs the handlers of signals that came during a long call. Python runs them in its main
// thread alone, which is the process's first; others go on. True where a handler has raised.
inline bool signals_raise() {
  if (gettid() != getpid()) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}

// What forward takes for so many steps of one row: the operations of its products, and as many more
// as could be done in the time of a step's other work.
inline double work_of(const Spec& spec, int64_t steps) {
  constexpr double kStep = 4000;
  double of_a_step = 0;
  for (int64_t l = 0; l < spec.layers; ++l)
    of_a_step += kStep +
                 2.0 * static_cast<double>(spec.gates * spec.units) *
                     static_cast<double>(spec.layer_inputs(l) + spec.outputs()) +
                 2.0 * static_cast<double>(spec.projection) * static_cast<double>(spec.units);
  return static_cast<double>(steps * spec.directions) * of_a_step;
}

inline void pack_views(Weights& w, const std::vector<View>& views, bool backward) {
  // A weight is packed in the time of some thirty operations.
  run_engine(w.spec(), 16 * work_of(w.spec(), 1), [&] { w.pack(views, backward); });
}

inline void pack(PyWeights& w, const py::tuple& parameters, bool backward) {
  if (w.packed(backward)) return;
  Kept kept;
  pack_views(w, views_of(w.caller(), "a parameter", parameters, kept), backward);
}

inline void require_packed(const Weights& w, bool backward) {
  if (!w.packed(backward))
    throw Error(Fault::kRuntime, w.spec().op, "weights must be packed before use, got none");
}

// Weights of the sizes that a call's parameters have, not packed yet, and the parameters: what a
// call with parameters of another library begins with.
struct NewWeights {
  std::unique_ptr<PyWeights> weights;
  std::vector<View> parameters;
  Kept kept;

  NewWeights(const std::string& cell, int64_t layers, int64_t directions, const py::tuple& given) {
    Spec named{};
    named.op = cell;
    const Caller caller{named, given.empty() ? nullptr : dlpack::exchange_of(given[0])};
    parameters = views_of(caller, "a parameter", given, kept);
    const Spec sizes = sizes_of(cell, layers, directions, parameters);
    weights = new_weights(cell, dtype_name(sizes.kind, sizes.element_bytes), layers, directions,
                          sizes.inputs, sizes.units, sizes.bias, sizes.projection);
    weights->exchange = caller.exchange;
  }
};

inline std::unique_ptr<PyWeights> pack_new(const std::string& cell, int64_t layers,
                                           int64_t directions, const py::tuple& parameters,
                                           bool forward, bool backward, int threads) {
  NewWeights made(cell, layers, directions, parameters);
  const TeamLimit limit(threads);
  if (forward) pack_views(*made.weights, made.parameters, false);
  if (backward) pack_views(*made.weights, made.parameters, true);
  return std::move(made.weights);
}

}  // namespace fastrnn
