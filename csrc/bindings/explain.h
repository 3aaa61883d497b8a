// What can be asked about the CPU engine and its plans, as Python's dicts.
#pragma once

#include "../cpu/cpuid.h"
#include "../cpu/dispatch.h"
#include "../cpu/processors.h"
#include "weights.h"

namespace fastrnn {

inline py::dict plan_dict(const Usage& usage) {
  py::dict d;
  d["regime"] = usage.plan.regime;
  d["threads"] = usage.plan.threads();
  d["row_groups"] = usage.plan.row_groups;
  d["unit_members"] = usage.plan.unit_members;
  d["recurrence_threads"] = usage.plan.recurrence_threads;
  d["chunk_steps"] = usage.plan.chunk;
  d["workspace_bytes"] = usage.workspace;
  d["model_microseconds"] = usage.plan.microseconds;
  return d;
}

// How many threads a call may have now, and what limits them.
inline py::dict available_dict() {
  const Available now = available();
  py::dict d;
  d["threads"] = now.threads;
  d["why"] = now.why;
  return d;
}

inline py::dict explain(const PyWeights& w, int64_t T, int64_t B, int64_t recompute) {
  const Spec& spec = w.spec();
  const KernelEntry& k = w.kernel();
  check_sizes(spec, T, B);
  Problem p;
  p.T = T, p.B = B, p.recompute = recompute;
  int64_t tape_bytes = 0;
  for (const Role role : {Role::kInner, Role::kStates, Role::kSaved})
    tape_bytes +=
        type_of_role(rule_of(role), spec, 0).bytes * elements_of(role_shape(role, spec, p));
  py::dict d, tile;
  d["cell"] = spec.op;
  d["dtype"] = dtype_name(spec.kind, spec.element_bytes);
  d["level"] = w.product().level;
  d["weights"] = std::string(spec.scheme ? spec.scheme->name : "");
  tile["lanes"] = k.lanes;
  tile["rows"] = k.tile_rows;
  tile["panel_units"] = k.phase[0].layout.blocks * k.lanes;
  d["tile"] = tile;
  d["forward"] = plan_dict(usage(w, p, Kind::kInfer));
  if (!spec.scheme) {
    d["forward_with_tape"] = plan_dict(usage(w, p, Kind::kForward));
    d["backward"] = plan_dict(usage(w, p, Kind::kBackward));
    d["tape_bytes"] = tape_bytes;
  }
  d["available"] = available_dict();
  d["packed_bytes"] = w.bytes();
  return d;
}

inline py::list cells() {
  py::list all;
  for (const std::string& name : cell_names()) {
    const KernelEntry& k = find_kernel(name, kFloat32);
    py::dict d;
    d["name"] = name;
    d["gates"] = k.gates;
    d["states"] = k.states;
    d["saved"] = k.saved;
    d["phases"] = k.phases;
    d["projection"] = can_project(name);  // is it built for a proj_size?
    all.append(d);
  }
  return all;
}

inline py::dict processors_dict() {
  py::dict d;
  d["affinity"] = affinity_processors();
  d["quota"] = quota_processors();
  d["usable"] = processors();
  return d;
}

inline py::dict caches_dict() {
  py::dict d;
  d["l1d"] = caches().l1d;
  d["l2"] = caches().l2;
  d["l3"] = caches().l3;
  return d;
}

inline const char* compiler() {
#if defined(__clang__)
  return __VERSION__;
#else
  return "g++ " __VERSION__;
#endif
}

}  // namespace fastrnn
