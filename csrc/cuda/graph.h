// Work of a stream that is put together once and replayed many times: graphs of CUDA
// (graph_cuda.cpp). Tests have graphs of their own (tests/cuda_emulation). Errors are those of
// device.h.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "device.h"

namespace fastrnn {
namespace gpu {

// What a library has put on a stream.
class Recording {
 public:
  virtual ~Recording() = default;
};

// Records what `calls` puts on the stream that it is given, which is one beside `stream`. The calls
// are made twice. The first time they run, in the order of `stream`, so that a library makes there
// what it makes once for a stream. Null where nothing can be recorded: the work of `stream` is
// being captured itself, or the second calls fail.
std::unique_ptr<Recording> record(const std::string& op, void* stream,
                                  const std::function<void(void* stream)>& calls);

// Work that runs in the order in which it was added.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void add(const Recording& part) = 0;
  template <class... A> void add(int blocks, int threads, void (*kernel)(A...), A... arguments) {
    void* all[] = {&arguments...};
    add(blocks, threads, kernel_of(kernel), all);
  }
  // Puts all of it on a stream. The graph may go before it has run.
  virtual void replay(void* stream) = 0;

 protected:
  virtual void add(int blocks, int threads, Kernel kernel, void** arguments) = 0;
};
std::unique_ptr<Graph> new_graph(const std::string& op);

}  // namespace gpu
}  // namespace fastrnn
