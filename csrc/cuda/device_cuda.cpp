#include <memory>
#include <mutex>
#include <set>
#include <tuple>
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
// Attributes of kernels that have been set, by device.
std::set<std::tuple<int, const void*, cudaFuncAttribute>> attributes_set;

// Once, so always to the same value.
void set_attribute(const std::string& op, const void* kernel, cudaFuncAttribute attribute,
                   int64_t value) {
  const int index = current_device();
  const std::lock_guard<std::mutex> lock(mutex);
  if (attributes_set.count({index, kernel, attribute})) return;
  FASTRNN_CHECK(op, cudaFuncSetAttribute, kernel, attribute, static_cast<int>(value));
  attributes_set.insert({index, kernel, attribute});
}

// Never to less than the device has: another thread may be about to launch the kernel with more
// than this one asks for.
void raise_limit(const std::string& op, const void* kernel) {
  set_attribute(op, kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                device(current_device()).shared_per_block);
}

// How a kernel is launched, as CUDA takes it; made where it stays.
struct Config {
  cudaLaunchConfig_t config{};
  cudaLaunchAttribute attributes[2];

  Config(const std::string& op, const Launch& how, const void* kernel) {
    constexpr int64_t kSharedWithoutAsking = 48 << 10;
    constexpr int kClusterWithoutAsking = 8;
    if (how.shared > kSharedWithoutAsking) raise_limit(op, kernel);
    if (how.cluster > kClusterWithoutAsking)
      set_attribute(op, kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    config.gridDim = dim3(static_cast<unsigned>(how.blocks));
    config.blockDim = dim3(static_cast<unsigned>(how.threads));
    config.dynamicSmemBytes = static_cast<size_t>(how.shared);
    config.stream = static_cast<cudaStream_t>(how.stream);
    config.attrs = attributes;
    if (how.cooperative) add(cudaLaunchAttributeCooperative).cooperative = 1;
    if (how.cluster > 1)
      add(cudaLaunchAttributeClusterDimension).clusterDim = {static_cast<unsigned>(how.cluster), 1,
                                                             1};
  }
  Config(const Config&) = delete;

 private:
  cudaLaunchAttributeValue& add(cudaLaunchAttributeID id) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = id;
    return attribute.val;
  }
};

const Known& known(int index) {
  // The largest that any device has; whether a kernel can have it, clusters_at_once asks CUDA.
  constexpr int64_t kMaxCluster = 16;
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
                  kilohertz * 1e-6,
                  p.clusterLaunch ? kMaxCluster : 0};
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
  const Config made(op, how, kernel.function);
  FASTRNN_CHECK(op, cudaLaunchKernelExC, &made.config, kernel.function, arguments);
}

int blocks_per_processor(const std::string& op, const void* kernel, int threads, int64_t shared) {
  int count = 0;
  raise_limit(op, kernel);
  FASTRNN_CHECK(op, cudaOccupancyMaxActiveBlocksPerMultiprocessor, &count, kernel, threads,
                static_cast<size_t>(shared));
  return count;
}

int clusters_at_once(const std::string& op, const void* kernel, int threads, int64_t shared,
                     int cluster) {
  if (cluster > device(current_device()).max_cluster) return 0;
  Launch how{cluster, threads, shared};
  how.cluster = cluster;
  const Config made(op, how, kernel);
  int count = 0;
  const cudaError_t error = cudaOccupancyMaxActiveClusters(&count, kernel, &made.config);
  if (error != cudaErrorInvalidClusterSize) {
    check(op, "cudaOccupancyMaxActiveClusters", error);
    return count;
  }
  cudaGetLastError();
  return 0;
}

int architecture_of(const std::string& op, const void* kernel) {
  cudaFuncAttributes attributes;
  FASTRNN_CHECK(op, cudaFuncGetAttributes, &attributes, kernel);
  return attributes.ptxVersion;
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
