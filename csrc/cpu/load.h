// What the process remembers of a busy machine from call to call.
//
// A member of a team that is late (see team.h) shows that other programs run on the cores. Teams
// are then smaller, by the members that were late, for a pause. After it the full team is tried
// again, and how long it works before a member is late says whether that was worth it: a late
// member costs a time slice of the system, some milliseconds. Where the full team has worked for
// less than kWorthwhile, the next pause is four times as long, up to kMaxPause; where it has worked
// for longer, the pause is kMinPause again. So a hiccup costs a few milliseconds however often it
// comes, lasting load costs one try in a quarter of a second, and a quarter of a second after the
// load has ended the team is whole.
#pragma once

#include <stdint.h>

namespace fastrnn {

int64_t now_ns();

namespace load {

constexpr int64_t kMinPause = 4'000'000, kMaxPause = 256'000'000;  // ns
constexpr int64_t kWorthwhile = 16'000'000;                        // ns

// Of `members`, how many a team should have now.
int allowed(int members);
// A full team has begun at `start`, by now_ns(), and no member is late until now.
void record_work(int64_t start);
// Members of a team of so many, which began at `start`, were late. Several calls in one pause count
// as one.
void record_late(int members, int late, int64_t start);
// When the full team is to be tried again, as now_ns() counts; 0: nothing is held back.
int64_t retry_at();
// Was a member ever late?
bool seen();
// Forgets everything.
void reset();

}  // namespace load
}  // namespace fastrnn
