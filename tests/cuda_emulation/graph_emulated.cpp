// csrc/cuda/graph.h on the emulator: a recording is the calls themselves, which a replay makes on
// its stream, and a graph is a list of them and of launches.
#include "graph_emulated.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/graph.h"
#include "device_emulated.h"

namespace fastrnn {

namespace {

bool refused = false;
int replayed = 0;
std::atomic<bool> held{false};
constexpr int kMostNaps = 500;  // of ten milliseconds

void wait_while_held(const std::string& op) {
  for (int i = 0; held; ++i) {
    if (i == kMostNaps) throw Error(Fault::kRuntime, op, "replays must be let go on, got nobody");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

using OnStream = std::function<void(void* stream)>;

struct Calls : gpu::Recording {
  OnStream calls;
  explicit Calls(OnStream c) : calls(std::move(c)) {}
};

class List : public gpu::Graph {
 public:
  explicit List(const std::string& op) : op_(op) {}

  void add(const gpu::Recording& part) override {
    parts_.push_back(static_cast<const Calls&>(part).calls);
  }
  void add(int blocks, int threads, gpu::Kernel kernel, void** arguments) override {
    const auto call = kernel.bind(kernel.function, arguments);
    parts_.push_back([this, blocks, threads, call](void* stream) {
      emulation::launch_call(op_, {blocks, threads, 0, false, stream}, call);
    });
  }
  void replay(void* stream) override {
    wait_while_held(op_);
    ++replayed;
    for (const OnStream& part : parts_) part(stream);
  }

 private:
  const std::string op_;
  std::vector<OnStream> parts_;
};

}  // namespace

namespace emulation {

void refuse_recording(bool refuse) { refused = refuse; }
void hold_replays(bool hold) { held = hold; }
int replays() { return replayed; }

}  // namespace emulation

namespace gpu {

std::unique_ptr<Recording> record(const std::string&, void*, const OnStream& calls) {
  return refused ? nullptr : std::make_unique<Calls>(calls);
}

std::unique_ptr<Graph> new_graph(const std::string& op) { return std::make_unique<List>(op); }

}  // namespace gpu
}  // namespace fastrnn
