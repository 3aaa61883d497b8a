// How many threads a call may have.
//
// Members of all teams together are no more than processors; a call leases its members, so that
// calls of other threads see what is left.
#pragma once

#include <stdint.h>

#include <string>

namespace fastrnn {

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

}  // namespace fastrnn
