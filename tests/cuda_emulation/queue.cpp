#include "queue.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace fastrnn {
namespace emulation {

namespace {

constexpr int kNoEvent = -1;

struct Item {
  Work work;
  int after = kNoEvent;  // the event that it waits for
};

struct Queue {
  bool waits = false;
  Schedule order = Schedule::kForward;
  std::mt19937_64 random;
  std::map<uintptr_t, std::deque<Item>> streams;
  std::vector<bool> happened;  // by event

  bool can_go_on(const std::deque<Item>& stream) const {
    if (stream.empty()) return false;
    const int after = stream.front().after;
    return after == kNoEvent || happened[static_cast<size_t>(after)];
  }

  // Some stream always can, unless all are empty: what came first of all that is left waits for
  // nothing that is left.
  std::deque<Item>& next_stream() {
    std::vector<std::deque<Item>*> ready;
    for (auto& [number, stream] : streams)
      if (can_go_on(stream)) ready.push_back(&stream);
    switch (order) {
      case Schedule::kForward: return *ready.front();
      case Schedule::kReverse: return *ready.back();
      case Schedule::kRandom: break;
    }
    return *ready[random() % ready.size()];
  }

  // Taken out first: what it throws goes to whoever waits, and what it gives up may enqueue.
  void run_one() {
    std::deque<Item>& stream = next_stream();
    const Item item = std::move(stream.front());
    stream.pop_front();
    item.work();
  }
};

// Never freed: work of Python's must not be given up after the interpreter's end.
Queue& queue() {
  static auto* the_queue = new Queue;
  return *the_queue;
}

}  // namespace

void queue_work(Schedule order, uint64_t seed) {
  queue().waits = true;
  queue().order = order;
  queue().random.seed(seed);
}

void run_at_once() {
  queue().waits = false;
  // Moved out, since what it gives up may enqueue.
  const auto dropped = std::exchange(queue().streams, {});
}

void enqueue(uintptr_t stream, Work work) {
  if (queue().waits)
    queue().streams[stream].push_back({std::move(work)});
  else
    work();
}

int record(uintptr_t stream) {
  std::vector<bool>& happened = queue().happened;
  const size_t event = happened.size();
  happened.push_back(false);
  enqueue(stream, [event] { queue().happened[event] = true; });
  return static_cast<int>(event);
}

void wait(uintptr_t stream, int event) {
  if (queue().waits) queue().streams[stream].push_back({[] {}, event});
}

void synchronize(uintptr_t stream) {
  while (!queue().streams[stream].empty()) queue().run_one();
}

void synchronize_all() {
  const auto& streams = queue().streams;
  const auto has_work = [](const auto& each) { return !each.second.empty(); };
  while (std::any_of(streams.begin(), streams.end(), has_work)) queue().run_one();
}

}  // namespace emulation
}  // namespace fastrnn
