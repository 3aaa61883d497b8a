#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "check_cuda.h"
#include "device.h"

namespace fastrnn {
namespace gpu {

namespace {

struct Known {
  Device device;
  DeviceError* error;
};

// One for each device, made when first asked for and kept for the life of the process.
std::mutex mutex;
std::vector<std::unique_ptr<Known>> all_known;
// Kernels whose limit of shared memory has been raised to what the device has, by device.
std::set<std::pair<int, const void*>> raised;

// Once, and never to less than the device has: another thread may be about to launch the kernel
// with more than this one asks for.
void raise_limit(const std::string& op, const void* kernel) {
  const int index = current_device();
  const int64_t max_shared = device(index).shared_per_block;
  const std::lock_guard<std::mutex> lock(mutex);
  if (raised.count({index, kernel})) return;
  FASTRNN_CHECK(op, cudaFuncSetAttribute, kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                static_cast<int>(max_shared));
  raised.insert({index, kernel});
}

const Known& known(int index) {
  const std::string op = "cuda";
  const std::lock_guard<std::mutex> lock(mutex);
  if (index >= static_cast<int>(all_known.size())) all_known.resize(static_cast<size_t>(index) + 1);
  auto& slot = all_known[static_cast<size_t>(index)];
  if (slot) return *slot;
  auto made = std::make_unique<Known>();
  cudaDeviceProp p;
  FASTRNN_CHECK(op, cudaGetDeviceProperties, &p, index);
  int kilohertz = 0;
  FASTRNN_CHECK(op, cudaDeviceGetAttribute, &kilohertz, cudaDevAttrClockRate, index);
  made->device = {index,
                  p.name,
                  p.major,
                  p.minor,
                  p.multiProcessorCount,
                  static_cast<int64_t>(p.sharedMemPerBlockOptin),
                  p.cooperativeLaunch != 0,
                  kilohertz * 1e-6};
  const OnDevice here(op, index);
  void* memory = nullptr;
  FASTRNN_CHECK(op, cudaHostAlloc, &memory, sizeof(DeviceError), cudaHostAllocMapped);
  made->error = new (memory) DeviceError{};
  slot = std::move(made);
  return *slot;
}

}  // namespace

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::string why_none() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count ? "" : "no device";
  cudaGetLastError();
  return std::string("cudaGetDeviceCount: ") + cudaGetErrorName(error) + ": " +
         cudaGetErrorString(error);
}

int current_device() {
  int index = 0;
  FASTRNN_CHECK("cuda", cudaGetDevice, &index);
  return index;
}

const Device& device(int index) { return known(index).device; }
DeviceError* device_error(int index) { return known(index).error; }

int device_of(const void* pointer) {
  cudaPointerAttributes attributes;
  FASTRNN_CHECK("cuda", cudaPointerGetAttributes, &attributes, pointer);
  const bool on_device =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return on_device ? attributes.device : -1;
}

bool reaches(int32_t dlpack_device, const void*) {
  constexpr int32_t kCuda = 2, kManaged = 13;
  return dlpack_device == kCuda || dlpack_device == kManaged;
}

void synchronize(const std::string& op, void* stream) {
  FASTRNN_CHECK(op, cudaStreamSynchronize, static_cast<cudaStream_t>(stream));
}

OnDevice::OnDevice(const std::string& op, int index) {
  FASTRNN_CHECK(op, cudaGetDevice, &before_);
  if (before_ != index) FASTRNN_CHECK(op, cudaSetDevice, index);
}
OnDevice::~OnDevice() {
  // Nothing can be said from here; the next call on the device will say it.
  int now = before_;
  if (cudaGetDevice(&now) == cudaSuccess && now != before_) cudaSetDevice(before_);
}

void launch(const std::string& op, const Launch& how, Kernel kernel, void** arguments) {
  const auto stream = static_cast<cudaStream_t>(how.stream);
  const dim3 grid(static_cast<unsigned>(how.blocks)), block(static_cast<unsigned>(how.threads));
  const auto shared = static_cast<size_t>(how.shared);
  constexpr int64_t kWithoutAsking = 48 << 10;
  if (how.shared > kWithoutAsking) raise_limit(op, kernel.function);
  if (how.cooperative)
    FASTRNN_CHECK(op, cudaLaunchCooperativeKernel, kernel.function, grid, block, arguments, shared,
                  stream);
  else
    FASTRNN_CHECK(op, cudaLaunchKernel, kernel.function, grid, block, arguments, shared, stream);
}

int blocks_per_processor(const std::string& op, const void* kernel, int threads, int64_t shared) {
  int count = 0;
  raise_limit(op, kernel);
  FASTRNN_CHECK(op, cudaOccupancyMaxActiveBlocksPerMultiprocessor, &count, kernel, threads,
                static_cast<size_t>(shared));
  return count;
}

void zero(const std::string& op, void* memory, int64_t bytes, void* stream) {
  FASTRNN_CHECK(op, cudaMemsetAsync, memory, 0, static_cast<size_t>(bytes),
                static_cast<cudaStream_t>(stream));
}

void copy(const std::string& op, void* to, const void* from, int64_t bytes, void* stream) {
  FASTRNN_CHECK(op, cudaMemcpyAsync, to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                static_cast<cudaStream_t>(stream));
}

}  // namespace gpu
}  // namespace fastrnn
