// The devices and what the host asks of them. Every call is checked; what fails throws
// Error(kRuntime) whose text names the call. device_cuda.cpp is CUDA's runtime; tests have a device
// of their own (tests/cuda_emulation).
#pragma once

#include <stdint.h>

#include <functional>
#include <string>
#include <tuple>
#include <utility>

#include "../core/error.h"
#include "pass.h"

namespace fastrnn {
namespace gpu {

struct Device {
  int index;
  std::string name;
  int major, minor;  // compute capability
  int processors;    // SMs
  int64_t shared_per_block;
  bool cooperative;
  double gigahertz;
  int64_t max_cluster;  // blocks; 0 where there are no clusters
};

// Devices that can be used: 0 where there is none, and then why.
int device_count();
std::string why_none();
// Of the calling thread.
int current_device();
// Made once for each device, and with it the memory for its error.
const Device& device(int index);
// Which device memory belongs to; -1 for memory of the host.
int device_of(const void* pointer);
// Whether an array on a device of this type, of DLPack's numbers, is in memory that kernels read.
// (On a GPU the type alone says it.)
bool reaches(int32_t dlpack_device, const void* pointer);

// Where kernels of the device record an error, in memory of the host. Read at any time; nothing
// waits.
DeviceError* device_error(int index);
// Waits for a stream (null: the default one of the current device).
void synchronize(const std::string& op, void* stream);

// Makes a device the calling thread's as long as this lives.
class OnDevice {
 public:
  OnDevice(const std::string& op, int index);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;

 private:
  int before_;
};

// What `launch` throws where the device gives a cooperative launch fewer SMs than it names, by a
// share of MPS, MIG or a green context. Nothing was launched, and other launches go on.
struct TooManyBlocks : Error {
  using Error::Error;
};

struct Launch {
  int blocks, threads;
  int64_t shared = 0;
  bool cooperative = false;  // all blocks resident at once
  void* stream = nullptr;
  int cluster = 0;  // blocks that form a cluster; 0 or 1: none do
};

// A kernel without its type: `bind` makes a call of it with copies of these arguments, for a device
// that is a program itself.
struct Kernel {
  const void* function;
  std::function<void()> (*bind)(const void* function, void** arguments);
};
void launch(const std::string& op, const Launch& how, Kernel kernel, void** arguments);

template <class... A, size_t... I> std::function<void()> bind_typed(const void* function,
                                                                    void** arguments,
                                                                    std::index_sequence<I...>) {
  const auto kernel = reinterpret_cast<void (*)(A...)>(const_cast<void*>(function));
  return [kernel, copies = std::tuple<A...>(*static_cast<A*>(arguments[I])...)] {
    std::apply(kernel, copies);
  };
}
template <class... A> Kernel kernel_of(void (*kernel)(A...)) {
  const auto bind = [](const void* function, void** given) {
    return bind_typed<A...>(function, given, std::index_sequence_for<A...>{});
  };
  return {reinterpret_cast<const void*>(kernel), bind};
}
template <class... A>
void launch(const std::string& op, const Launch& how, void (*kernel)(A...), A... arguments) {
  void* all[] = {&arguments...};
  launch(op, how, kernel_of(kernel), all);
}

// Blocks of this kernel that fit on one SM.
int blocks_per_processor(const std::string& op, const void* kernel, int threads, int64_t shared);
// Clusters of so many blocks of this kernel that fit on the device at once; 0 where none does.
int clusters_at_once(const std::string& op, const void* kernel, int threads, int64_t shared,
                     int cluster);
// The compute capability, times 10, that the code of this kernel on the device was compiled for,
// which may be less than the device's: what the kernel can do goes by it.
int architecture_of(const std::string& op, const void* kernel);

void zero(const std::string& op, void* memory, int64_t bytes, void* stream);
void copy(const std::string& op, void* to, const void* from, int64_t bytes, void* stream);

}  // namespace gpu
}  // namespace fastrnn
