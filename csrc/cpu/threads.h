// Who does what of a call: the plan for the threads that it may have, and each one's part.
#pragma once

#include <optional>

#include "batch.h"
#include "plan.h"
#include "team.h"

namespace fastrnn {

struct Threads {
  Plan plan;
  std::optional<Lease> lease;

  // make_plan(threads) makes a plan. Small calls ask nobody: that would take a part of their time.
  template <class MakePlan> explicit Threads(MakePlan make_plan) : plan(make_plan(1)) {
    if (!plan.worth_a_team) return;
    const int threads = available_threads();
    if (threads > 1) plan = make_plan(threads);
    lease.emplace(plan.threads());
    if (lease->members() < plan.threads()) plan = make_plan(lease->members());
  }

  ThreadWork work(const Batch& batch, int part) const {
    ThreadWork work{};
    const int group = part / plan.unit_members;
    work.member = part;
    work.members = plan.threads();
    work.unit_members = plan.unit_members;
    work.unit_member = part % plan.unit_members;
    work.recurrence_threads = plan.recurrence_threads;
    work.row_begin = batch.begin_of(group, plan.row_groups);
    work.row_end = batch.begin_of(group + 1, plan.row_groups);
    return work;
  }
};

}  // namespace fastrnn
