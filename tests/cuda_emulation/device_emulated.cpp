// csrc/cuda/device.h on the emulator: one device, whose memory is the host's, and whose work goes
// through the streams of queue.h.
#include "device_emulated.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <stdexcept>

#include "cuda/device.h"
#include "emulator.h"
#include "queue.h"

namespace fastrnn {

namespace {

std::string failing;
bool lost = false;  // has a kernel trapped?
int compiled_for = 90;
int most_cooperative = INT32_MAX;
gpu::DeviceError the_error{};
bool with_host = false;
std::map<uintptr_t, int> elsewhere;
std::map<uintptr_t, uintptr_t> of_host;  // begin and end of memory that is the host's alone

bool is_of_host(const void* pointer) {
  const auto at = reinterpret_cast<uintptr_t>(pointer);
  const auto next = of_host.upper_bound(at);
  return next != of_host.begin() && at < std::prev(next)->second;
}

void maybe_fail(const std::string& op, const char* call) {
  if (lost)
    throw Error(Fault::kRuntime, op,
                std::string(call) + " must succeed, got a device that is lost");
  if (failing != call) return;
  failing.clear();
  throw Error(Fault::kRuntime, op, std::string(call) + " must succeed, got a failure by a test");
}

uintptr_t number_of(const void* stream) { return reinterpret_cast<uintptr_t>(stream); }

// Errors of a kernel go to whoever waits for it, as on a GPU.
void run_kernel(const std::string& op, const gpu::Launch& how, const emulation::Work& kernel) {
  if (lost) return;
  try {
    emulation::launch(kernel, how.blocks, how.threads, how.shared, std::max(how.cluster, 1));
  } catch (const emulation::Trapped&) {
    lost = true;
  } catch (const std::runtime_error& e) {
    throw Error(Fault::kRuntime, op, std::string("the kernel must end, got: ") + e.what());
  }
}

// Never fewer: references to devices stay good.
std::deque<gpu::Device>& devices() {
  static std::deque<gpu::Device> all = {{0, "emulated", 9, 0, 8, 227 << 10, true, 1.7, 16}};
  return all;
}

}  // namespace

namespace emulation {

void use_device(int processors, int64_t shared_per_block, bool cooperative, double gigahertz,
                int64_t max_cluster, int architecture) {
  gpu::Device device = devices().back();
  ++device.index;
  device.processors = processors;
  device.shared_per_block = shared_per_block;
  device.cooperative = cooperative;
  device.gigahertz = gigahertz;
  device.max_cluster = max_cluster;
  device.major = architecture / 10, device.minor = architecture % 10;
  devices().push_back(device);
  compiled_for = architecture;
  lost = false;
  the_error = {};
  most_cooperative = INT32_MAX;
}

void limit_cooperative(int blocks) { most_cooperative = blocks; }

void place_on(uintptr_t pointer, int device) { elsewhere[pointer] = device; }

void take_host_arrays(bool take) {
  with_host = take;
  of_host.clear();
}

void leave_to_host(uintptr_t pointer, int64_t bytes) {
  of_host[pointer] = pointer + static_cast<uintptr_t>(bytes);
}
void take_from_host(uintptr_t pointer) { of_host.erase(pointer); }

void launch_call(const std::string& op, const gpu::Launch& how, const std::function<void()>& call) {
  maybe_fail(op, "launch");
  if (how.cooperative && how.blocks > most_cooperative)
    throw gpu::TooManyBlocks(Fault::kRuntime, op, "launch must succeed, got too many blocks");
  enqueue(number_of(how.stream), [op, how, call] { run_kernel(op, how, call); });
}

void fail_next_call(const std::string& name) { failing = name; }

}  // namespace emulation

namespace gpu {

int device_count() { return 1; }
std::string why_none() { return ""; }
int current_device() { return 0; }
const Device& device(int) { return devices().back(); }
bool reaches(int32_t dlpack_device, const void* pointer) {
  constexpr int32_t kCpu = 1, kCuda = 2;
  return dlpack_device == kCuda || (with_host && dlpack_device == kCpu && !is_of_host(pointer));
}
int device_of(const void* pointer) {
  const auto found = elsewhere.find(reinterpret_cast<uintptr_t>(pointer));
  return found == elsewhere.end() ? 0 : found->second;
}

DeviceError* device_error(int) { return &the_error; }
void synchronize(const std::string& op, void* stream) {
  emulation::synchronize(number_of(stream));
  maybe_fail(op, "synchronize");
}

OnDevice::OnDevice(const std::string&, int) : before_(0) {}
OnDevice::~OnDevice() { (void)before_; }

void launch(const std::string& op, const Launch& how, Kernel kernel, void** arguments) {
  emulation::launch_call(op, how, kernel.bind(kernel.function, arguments));
}

int blocks_per_processor(const std::string&, const void*, int, int64_t) { return 1; }
int clusters_at_once(const std::string&, const void*, int, int64_t, int cluster) {
  const Device& of = device(0);
  return cluster > of.max_cluster ? 0 : of.processors / cluster;
}
int architecture_of(const std::string&, const void*) { return compiled_for; }

void zero(const std::string& op, void* memory, int64_t bytes, void* stream) {
  maybe_fail(op, "zero");
  emulation::enqueue(number_of(stream),
                     [=] { std::memset(memory, 0, static_cast<size_t>(bytes)); });
}

void copy(const std::string& op, void* to, const void* from, int64_t bytes, void* stream) {
  maybe_fail(op, "copy");
  emulation::enqueue(number_of(stream), [=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
}

}  // namespace gpu
}  // namespace fastrnn
