// The team of threads: OpenMP in the library, std::thread under FASTRNN_TEAM_STD_THREAD for the
// sanitizers, which cannot see into libgomp.
#pragma once

#include <stdint.h>

#include "../core/kernel_table.h"

namespace fastrnn {

// Members arrive; all leave when the last has come. Spins briefly, then yields: a virtual core may
// have been taken away from the member that is waited for.
struct Barrier {
  alignas(64) uint32_t arrived;
  alignas(64) uint32_t round;
  uint32_t members;
};

void reset(Barrier* barrier, int members);

// Threads that a call may use: the limit of the call, if it has one, else the set number; or 1
// inside a parallel region of the caller's or in a child of fork(), where OpenMP's pool is gone.
int available_threads();

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
int get_num_threads();
const char* team_backend();

// Calls job(context, member, members) once for each member, at the same time; members is n, or 1
// where the system gave fewer threads than asked for.
void run_team(int n, void (*job)(void* context, int member, int members), void* context);

}  // namespace fastrnn
