// The team on a busy machine: a member is stopped at every point of a task, and the others go on.
//
// A stopped member sleeps for as long as another program might hold its processor. Every task must
// be done once, in order, after what it needs; and all that can be done without the member must be
// done while it sleeps. Real calls are stopped at random points and must keep their bits.
#include <time.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "cpu/engine.h"
#include "cpu/float_state.h"
#include "cpu/load.h"
#include "cpu/processors.h"
#include "cpu/team.h"
#include "run_call.h"

namespace {

using namespace fastrnn;

void sleep_ns(int64_t ns) {
  const timespec t{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  nanosleep(&t, nullptr);
}

// A job of parts with a barrier after every task, as those that share the units of a row do, and
// all of them now and then. It writes without any synchronisation of its own: ThreadSanitizer sees
// what the team orders.
struct Barriers {
  static constexpr int kTasks = 24;
  int parts, group;
  std::vector<int> count;              // tasks of each part
  std::vector<std::vector<int>> slot;  // [part][task] + 1 where it was done
  std::vector<int> seen_wrong;         // what a task needed was not there
  std::atomic<int> ended{0};

  Barriers(int p, int g)
      : parts(p), group(g), count(p, 0), slot(p, std::vector<int>(kTasks, 0)), seen_wrong(p, 0) {}

  static Need need_of(int task) { return task % 8 == 7 ? Need::kTeam : Need::kGroup; }

  static Need task(void* self, int part) {
    Barriers& job = *static_cast<Barriers*>(self);
    const int n = job.count[part]++;
    if (n > 0) {
      const bool team = need_of(n - 1) == Need::kTeam;
      const int first = team ? 0 : part / job.group * job.group;
      for (int k = first; k < first + (team ? job.parts : job.group); ++k)
        job.seen_wrong[part] += job.slot[k][n - 1] != 1;
    }
    ++job.slot[part][n];
    if (n + 1 < kTasks) return need_of(n);
    ++job.ended;
    return Need::kEnd;
  }
};

// Where one member is stopped, once: at its n-th visit of a point. A member that has not begun a
// task stays away until the others have done everything; one that has, for a while.
struct Stop {
  TaskPoint point;
  int member, visit;
  Barriers* job;
  bool begun() const { return point == TaskPoint::kClaimed || point == TaskPoint::kDone; }
};
Stop stop;
std::atomic<int> visits{0};
std::atomic<bool> stopped{false}, in_vain{false};

void stop_there(TaskPoint point, int member, int) {
  if (point != stop.point || member != stop.member || visits.fetch_add(1) != stop.visit) return;
  stopped = true;
  const int64_t start = now_ns();
  if (stop.begun()) {  // until somebody has noticed, which on a busy machine may take a while
    do sleep_ns(5'000'000);
    while (!load::seen() && now_ns() - start < 1'000'000'000);
    return;
  }
  constexpr int64_t kLongest = 20'000'000'000;
  while (stop.job->ended < stop.job->parts && !in_vain) {
    sleep_ns(1'000'000);
    in_vain = now_ns() - start > kLongest;
  }
}

const char* name_of(TaskPoint point) {
  switch (point) {
    case TaskPoint::kArrived: return "arrived";
    case TaskPoint::kReady: return "ready";
    case TaskPoint::kClaimed: return "claimed";
    default: return "done";
  }
}

void stop_everywhere(int parts, int group) {
  for (TaskPoint point :
       {TaskPoint::kArrived, TaskPoint::kReady, TaskPoint::kClaimed, TaskPoint::kDone})
    for (int member = 0; member < parts; ++member)
      for (int visit : {0, 1, 9, Barriers::kTasks - 1}) {
        if (point == TaskPoint::kArrived && visit > 0) continue;
        load::reset();
        Barriers job(parts, group);
        stop = {point, member, visit, &job};
        visits = 0, stopped = false, in_vain = false;
        set_hook(stop_there);
        run_job({parts, group, &job, Barriers::task});
        set_hook(nullptr);
        char name[80];
        std::snprintf(name, sizeof name, "%d parts, member %d stopped at %s, visit %d", parts,
                      member, name_of(point), visit);
        for (int k = 0; k < parts; ++k) {
          EXPECT(job.count[k] == Barriers::kTasks, "%s: part %d did %d tasks", name, k,
                 job.count[k]);
          EXPECT(job.seen_wrong[k] == 0, "%s: part %d ran too early", name, k);
        }
        EXPECT(!in_vain, "%s: the others waited for it", name);
        if (in_vain) return;  // so will they at the other points
        // The others may end the job without noticing, but not where they have to wait. (A busy
        // machine may keep the member from ever getting there.)
        EXPECT(!stopped || !stop.begun() || load::seen(), "%s: nobody noticed", name);
      }
  load::reset();
}

// Does a late member of a full team that began at `start` make a pause of so long? Waits for its
// end.
bool makes_pause(int64_t start, int64_t pause) {
  const int64_t before = now_ns();
  load::record_late(2, 1, start);
  const int64_t end = load::retry_at(), after = now_ns();
  while (load::retry_at() != 0) sleep_ns(1'000'000);
  return end - after <= pause && pause <= end - before;
}

// Pauses grow while full teams achieve little, and what a program does between its calls is no
// achievement of theirs.
bool pauses_follow_work() {
  load::reset();
  bool right = makes_pause(now_ns(), load::kMinPause);
  right &= makes_pause(now_ns(), 4 * load::kMinPause);
  sleep_ns(2 * load::kWorthwhile);
  right &= makes_pause(now_ns(), 16 * load::kMinPause);
  for (int call = 0; call < 3; ++call) {
    const int64_t start = now_ns();
    sleep_ns(load::kWorthwhile / 2);
    load::record_work(start);
  }
  right &= makes_pause(now_ns(), load::kMinPause);
  const int64_t start = now_ns();  // of a long call that is still running
  sleep_ns(2 * load::kWorthwhile);
  right &= makes_pause(start, load::kMinPause);
  right &= makes_pause(start, 4 * load::kMinPause);
  load::reset();
  return right;
}

// A machine that takes the thread away between two lines makes any of these times longer.
void pauses() {
  int tries = 20;
  while (!pauses_follow_work() && --tries > 0) {
  }
  EXPECT(tries > 0, "pauses do not follow what teams did");
}

// Members of a large team compute under the caller's floating point state.
void share_float_state() {
  struct Seen {
    std::vector<uint64_t> state;
    static Need task(void* self, int part) {
      static_cast<Seen*>(self)->state[part] = arch::float_settings();
      sleep_ns(1'000'000);  // so that every member gets a part
      return Need::kEnd;
    }
  };
  const uint64_t before = arch::float_settings(), flushing = before | arch::kFlushToZero;
  for (const uint64_t wanted : {flushing, before}) {
    arch::set_float_settings(wanted);
    Seen seen{std::vector<uint64_t>(4)};
    run_job({4, 1, &seen, Seen::task});
    for (uint64_t each : seen.state)
      EXPECT(each == wanted, "floating point state %llx", static_cast<unsigned long long>(each));
  }
  arch::set_float_settings(before);
}

// A poll that says so ends a job early, and only after a while.
void interrupt() {
  struct Endless {
    int count = 0;
    static Need task(void* self, int part) {
      const int64_t until = now_ns() + 500'000;
      while (now_ns() < until) {
      }
      if (part == 0) ++static_cast<Endless*>(self)->count;
      return Need::kGroup;
    }
  };
  static int polled;
  for (int parts : {1, 3}) {
    polled = 0;
    set_poll([] { return ++polled == 2; });
    Endless job;
    const int64_t start = now_ns();
    bool ended = false;
    try {
      run_job({parts, parts, &job, Endless::task});
    } catch (const Interrupted&) {
      ended = true;
    }
    set_poll(nullptr);
    EXPECT(ended && polled == 2, "%d parts: not interrupted", parts);
    EXPECT(now_ns() - start >= 2 * kPollAfter, "%d parts: polled too often", parts);
  }
}

// ---- real calls ----------------------------------------------------------------------------

std::mt19937 rng(1);
std::atomic<unsigned> draws{0};

void stop_at_random(TaskPoint point, int, int) {
  // Not the generator: members draw at the same time.
  const unsigned n = draws.fetch_add(1) * 2654435761u;
  if ((n >> 16) % (point == TaskPoint::kClaimed ? 97 : 61) == 0) sleep_ns(1'500'000);
}

struct Array {
  std::vector<float> values;
  View view;
  explicit Array(const Shape& shape, double scale = 0) {
    size_t n = 1;
    for (int64_t d : shape) n *= static_cast<size_t>(d);
    values.resize(std::max<size_t>(n, 1));
    std::normal_distribution<float> normal(0, 1);
    if (scale > 0)
      for (float& v : values) v = static_cast<float>(scale) * normal(rng);
    view = fresh_view(values.data(), kFloat32, shape);
    view.given = true;
  }
};

// All results of a training step, one after the other.
std::vector<float> train(const std::string& cell, int64_t T, int64_t B, int64_t H,
                         int64_t recompute) {
  rng.seed(7);
  Weights w(cell, kFloat32, 2, 2, 20, H, true);
  const Spec& spec = w.spec();
  Problem p;
  p.T = T, p.B = B, p.recompute = recompute;
  std::vector<std::unique_ptr<Array>> arrays;
  const auto make = [&](const Shape& shape, double scale) {
    arrays.emplace_back(new Array(shape, scale));
    return arrays.back()->view;
  };
  std::vector<View> parameters;
  for (const Parameter& q : parameters_of(spec)) parameters.push_back(make(q.shape, 0.2));
  w.pack(parameters, false), w.pack(parameters, true);
  const auto shape = [&](Role role) { return role_shape(role, spec, p); };
  Call f;
  f.x = make(p.sequence(20), 1);
  const View dy = make(p.sequence(2 * H), 1);
  const size_t first = arrays.size();
  f.y = make(p.sequence(2 * H), 0);
  for (int64_t k = 0; k < spec.states; ++k) f.final[k] = make(shape(Role::kInitial), 0);
  f.kind = Kind::kForward;
  f.recompute = recompute;
  f.inner = make(shape(Role::kInner), 0), f.states = make(shape(Role::kStates), 0);
  f.saved = make(shape(Role::kSaved), 0);
  run_call(w, f);
  Call b = f;  // the inputs and the tape
  b.kind = Kind::kBackward;
  b.dy = dy;
  b.dx = make(p.sequence(20), 0);
  for (int64_t k = 0; k < spec.states; ++k) b.dinitial[k] = make(shape(Role::kInitial), 0);
  for (const Parameter& q : parameters_of(spec)) b.dparameters.push_back(make(q.shape, 0));
  run_call(w, b);
  std::vector<float> all;
  for (size_t i = first; i < arrays.size(); ++i)
    all.insert(all.end(), arrays[i]->values.begin(), arrays[i]->values.end());
  return all;
}

void stop_calls(const std::string& cell, int64_t T, int64_t B, int64_t H, int64_t recompute) {
  pretend_processors(1);
  const std::vector<float> alone = train(cell, T, B, H, recompute);
  for (int threads : {2, 3, 4}) {
    pretend_processors(threads);
    set_num_threads(threads);
    set_hook(stop_at_random);
    const std::vector<float> stopped = train(cell, T, B, H, recompute);
    set_hook(nullptr);
    EXPECT(stopped.size() == alone.size() &&
               !std::memcmp(stopped.data(), alone.data(), alone.size() * sizeof(float)),
           "%s T=%d B=%d H=%d recompute=%d: other bits with %d threads that were stopped",
           cell.c_str(), int(T), int(B), int(H), int(recompute), threads);
  }
}

}  // namespace

int main() {
  pretend_processors(8);
  share_float_state();
  interrupt();
  pauses();
  stop_everywhere(2, 2);
  stop_everywhere(4, 2);
  for (const char* cell : {"lstm", "gru", "rnn_tanh"}) {
    stop_calls(cell, 60, 1, 200, 0);   // units
    stop_calls(cell, 90, 1, 32, 0);    // one takes the steps
    stop_calls(cell, 30, 16, 48, 0);   // rows
    stop_calls(cell, 120, 2, 70, 16);  // windows
  }
  return check::report("test_team");
}
