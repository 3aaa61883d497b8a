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

#include <string>

#include "kernel_table.h"

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

// ---- how many ------------------------------------------------------------------------------

// Threads that a call may use, and what limits them: of the call's own limit, or the number that
// was set, no more than processors and than are left by the teams of other threads' calls, and
// fewer while the machine is busy; 1 inside a parallel region of the caller's, and in a child of
// fork(), where OpenMP's pool is gone.
struct Available {
  int threads;
  std::string why;
};
Available available();
int available_threads();

// Members of a call's team. While it lives, they are taken from what other threads' calls find
// available. Fewer than asked for where others were quicker; 0: the calling thread alone, for so
// short a time that others need not know.
class Lease {
 public:
  explicit Lease(int members);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  int members() const { return members_ > 1 ? members_ : 1; }

 private:
  int members_;
};

// For work that takes as long as reading so many bytes of weights once.
Lease lease_for_reading(int64_t bytes);

// While it lives, calls of this thread use at most n threads; 0 changes nothing.
class TeamLimit {
 public:
  explicit TeamLimit(int n);
  ~TeamLimit();
  TeamLimit(const TeamLimit&) = delete;
  TeamLimit& operator=(const TeamLimit&) = delete;

 private:
  int before_;
};

void set_num_threads(int n);
// What was set, or the processors; 1 in a child of fork().
int get_num_threads();
const char* team_backend();

// ---- for tests -----------------------------------------------------------------------------

// Where a thread of a team is when the hook is called.
enum class Point { kArrived, kReady, kClaimed, kDone };
using Hook = void (*)(Point point, int member, int part);
void set_hook(Hook hook);

}  // namespace fastrnn
