// What the process remembers of a busy machine from call to call.
//
// A member of a team that is late (see team.h) shows that other programs run on the cores. Teams
// are then smaller, by the members that were late, for a pause. After it the full team is tried
// again: where that fails at once, the next pause is four times as long, up to kMaxPause; where it
// went well for a good while, the pause starts from kMinPause again. So a single hiccup costs a few
// milliseconds, lasting load costs one try in a quarter of a second, and half a second after the
// load has ended the team is whole.
#pragma once

#include <stdint.h>

namespace fastrnn {

int64_t now_ns();

namespace load {

constexpr int64_t kMinPause = 4'000'000, kMaxPause = 256'000'000;  // ns

// Of `members`, how many a team should have now.
int allowed(int members);
// Members of a team of so many were late. Several calls in one pause count as one.
void record_late(int members, int late);
// When the full team is to be tried again, as now_ns() counts; 0: nothing is held back.
int64_t retry_at();
// Was a member ever late?
bool seen();
// Forgets everything.
void reset();

}  // namespace load
}  // namespace fastrnn
