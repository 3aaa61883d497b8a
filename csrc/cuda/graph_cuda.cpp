#include "graph.h"

#include <exception>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "check_cuda.h"

namespace fastrnn {
namespace gpu {

namespace {

// A stream beside a caller's, since the default stream cannot be captured. It does not wait for
// that one either, which would end a capture.
struct Side {
  cudaStream_t stream;
  cudaEvent_t event;
};
// Those that nobody records on, of each device and caller's stream, for the life of the process.
std::mutex sides_mutex;
std::map<std::pair<int, void*>, std::vector<Side>> idle_sides;

// One of them as long as this lives. It serves one caller's stream alone: a library's workspace
// belongs to a stream, and recorded work keeps its address, so that only the order of the caller's
// stream keeps two replays from working in it at once.
class SideStream {
 public:
  SideStream(const std::string& op, void* stream) : key_(current_device(), stream) {
    const std::lock_guard<std::mutex> lock(sides_mutex);
    std::vector<Side>& idle = idle_sides[key_];
    if (idle.empty()) {
      FASTRNN_CHECK(op, cudaEventCreateWithFlags, &side_.event, cudaEventDisableTiming);
      FASTRNN_CHECK(op, cudaStreamCreateWithFlags, &side_.stream, cudaStreamNonBlocking);
    } else {
      side_ = idle.back();
      idle.pop_back();
    }
  }
  ~SideStream() {
    const std::lock_guard<std::mutex> lock(sides_mutex);
    idle_sides[key_].push_back(side_);
  }
  SideStream(const SideStream&) = delete;

  cudaStream_t stream() const { return side_.stream; }
  // What the caller's stream has comes first.
  void after_caller(const std::string& op) const { order(op, caller(), side_.stream); }
  // What the caller's stream gets comes later.
  void before_caller(const std::string& op) const { order(op, side_.stream, caller()); }

 private:
  std::pair<int, void*> key_;
  Side side_;

  cudaStream_t caller() const { return static_cast<cudaStream_t>(key_.second); }
  void order(const std::string& op, cudaStream_t first, cudaStream_t second) const {
    FASTRNN_CHECK(op, cudaEventRecord, side_.event, first);
    FASTRNN_CHECK(op, cudaStreamWaitEvent, second, side_.event, 0);
  }
};

// The default stream cannot say while another one is captured that waits for it.
bool is_captured(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) == cudaSuccess)
    return status != cudaStreamCaptureStatusNone;
  cudaGetLastError();
  return true;
}

struct Captured : Recording {
  cudaGraph_t graph = nullptr;
  ~Captured() override {
    if (graph) cudaGraphDestroy(graph);
  }
};

class CudaGraph : public Graph {
 public:
  explicit CudaGraph(const std::string& op) : op_(op) {
    FASTRNN_CHECK(op_, cudaGraphCreate, &graph_, 0);
  }
  // One that runs is freed when it has run.
  ~CudaGraph() override {
    if (ready_) cudaGraphExecDestroy(ready_);
    cudaGraphDestroy(graph_);
  }

  void add(const Recording& part) override {
    const cudaGraphNode_t before = last_;
    FASTRNN_CHECK(op_, cudaGraphAddChildGraphNode, &last_, graph_, &before, before != nullptr,
                  static_cast<const Captured&>(part).graph);
  }
  void add(int blocks, int threads, Kernel kernel, void** arguments) override {
    cudaKernelNodeParams node{};
    node.func = const_cast<void*>(kernel.function);
    node.gridDim = dim3(static_cast<unsigned>(blocks));
    node.blockDim = dim3(static_cast<unsigned>(threads));
    node.kernelParams = arguments;  // which are copied
    const cudaGraphNode_t before = last_;
    FASTRNN_CHECK(op_, cudaGraphAddKernelNode, &last_, graph_, &before, before != nullptr, &node);
  }

  void replay(void* stream) override {
    if (!ready_) FASTRNN_CHECK(op_, cudaGraphInstantiateWithFlags, &ready_, graph_, 0);
    FASTRNN_CHECK(op_, cudaGraphLaunch, ready_, static_cast<cudaStream_t>(stream));
  }

 private:
  const std::string op_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphNode_t last_ = nullptr;
  cudaGraphExec_t ready_ = nullptr;
};

}  // namespace

std::unique_ptr<Recording> record(const std::string& op, void* stream,
                                  const std::function<void(void* stream)>& calls) {
  if (is_captured(stream)) return nullptr;
  const SideStream side(op, stream);
  side.after_caller(op);
  calls(side.stream());
  side.before_caller(op);
  // Relaxed: a library may ask for memory here, and other threads do what they like.
  FASTRNN_CHECK(op, cudaStreamBeginCapture, side.stream(), cudaStreamCaptureModeRelaxed);
  bool done = true;
  try {
    calls(side.stream());
  } catch (const std::exception&) {  // by the direct way it will be said, if it is said there too
    done = false;
  }
  auto captured = std::make_unique<Captured>();
  if (cudaStreamEndCapture(side.stream(), &captured->graph) == cudaSuccess && done) return captured;
  cudaGetLastError();
  return nullptr;
}

std::unique_ptr<Graph> new_graph(const std::string& op) { return std::make_unique<CudaGraph>(op); }

}  // namespace gpu
}  // namespace fastrnn
