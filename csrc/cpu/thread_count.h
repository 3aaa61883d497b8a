// How many threads a call may have.
//
// Members of all teams together are no more than processors; a call leases its members, so that
// calls of other threads see what is left.
#pragma once

#include <stdint.h>

#include <string>

namespace fastrnn {

// How many threads a call may use, and what limits them. The call's own limit, or else the number
// that was set, is reduced to the number of processors, to what the teams of other threads' calls
// leave of them, and further while the machine is busy. It is 1 inside a parallel region of the
// caller's, and in a child of fork(), where OpenMP's pool is gone.
struct Available {
  int threads;
  std::string why;
};
Available available();
int available_threads();

// The members of a call's team. While it lives, other threads' calls find so many threads fewer. It
// has fewer members than asked for if other calls took theirs first. 0 asks for the calling thread
// alone, for so short a time that nothing is counted.
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
