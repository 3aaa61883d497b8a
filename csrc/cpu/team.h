// The team of threads, and how it gets along on a busy machine.
//
// A job is cut into parts, one for each member of the team, and a part into tasks, which are done
// one after the other. A task may need that other parts have done as many tasks before; that is the
// only way in which parts wait for each other. What a part has come to is in memory, not on the
// stack of a thread, so whoever claims the next task of a part can do it. A task is claimed by one
// thread alone, which also ends it: nothing is ever done twice.
//
// Each part has an owner, the member of the same number, and on a quiet machine nobody else touches
// it. Where other programs want the cores, a member is away for milliseconds, and everybody would
// wait for it at each task. So those who have waited for some time do the tasks of parts whose
// owners are not there; a member that is found to have been away while others waited leaves the
// team for a pause (load.h), and so do teams of later calls. What nobody can take over is a task
// that its member has begun: the longest wait is that for one member to come back once.
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
enum class Point { kArrived, kReady, kClaimed, kDone };
using Hook = void (*)(Point point, int member, int part);
void set_hook(Hook hook);

}  // namespace fastrnn
