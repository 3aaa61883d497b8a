// The team of threads that runs a call, and what it does on a busy machine.
//
// A job is divided into parts, one for each member of the team, and a part into tasks, which are
// done one after the other. A task may need that other parts have done as many tasks before it;
// parts wait for each other in no other way. The state of a part is in memory and not on a thread's
// stack, so that any thread can claim its next task. One thread alone claims a task and also ends
// it, so nothing is done twice.
//
// Each part has an owner, the member of the same number, and on a quiet machine no other thread
// touches it. Where other programs run on the cores, a member is descheduled for milliseconds, and
// all others would wait for it at each task. So a thread that has waited for some time steals the
// tasks of parts whose owners are absent. A member that was descheduled while others waited leaves
// the team for a pause (load.h), and later calls have smaller teams until the pause is over. A task
// that a member has begun cannot be stolen: the longest wait is for one member to be scheduled once
// more.
//
// OpenMP runs the team in the library; std::thread does under FASTRNN_TEAM_STD_THREAD for the
// sanitizers, which cannot see into libgomp.
#pragma once

#include <stdint.h>

#include "kernel_table.h"
#include "thread_count.h"

namespace fastrnn {

struct Job {
  int parts;
  int group;  // so many neighbouring parts make a group: Need::kGroup
  void* context;
  // Does the next task of a part; returns what the one after it needs.
  Need (*task)(void* context, int part);
};

// Runs a job to its end, with a thread for each part where there are enough, this one among them.
// Throws Interrupted where the poll says so.
void run_job(const Job& job);

// Asked by the calling thread of a long job, after kPollAfter and not more often than that: true
// ends the job. Null: nobody is asked.
constexpr int64_t kPollAfter = 100'000'000;  // ns
using Poll = bool (*)();
void set_poll(Poll poll);

// The library that makes the threads: "OpenMP" or "std::thread".
const char* team_backend();

// ---- for tests -----------------------------------------------------------------------------

// Where a thread of a team is when the hook is called.
enum class TaskPoint { kArrived, kReady, kClaimed, kDone };
using Hook = void (*)(TaskPoint point, int member, int part);
void set_hook(Hook hook);

}  // namespace fastrnn
