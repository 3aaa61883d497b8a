// How micro.cu measures and prints, and asks the card: every call is checked.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "micro_steps.cuh"

namespace fastrnn {
namespace gpu {

constexpr int kRuns = 9;  // of each measurement: their median counts
constexpr int kBlockThreads = kMaxThreads;

inline void check(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "[micro] %s must succeed, got %s: %s\n", call, cudaGetErrorName(error),
               cudaGetErrorString(error));
  std::exit(1);
}
#define MICRO_CHECK(call, ...) check(#call, call(__VA_ARGS__))

// ---- measuring ----------------------------------------------------------------------------------

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Of what `launch` puts on the default stream; the first run is not counted.
template <class F> double microseconds(F launch) {
  cudaEvent_t begin, end;
  MICRO_CHECK(cudaEventCreate, &begin);
  MICRO_CHECK(cudaEventCreate, &end);
  std::vector<double> found;
  for (int run = 0; run <= kRuns; ++run) {
    MICRO_CHECK(cudaEventRecord, begin, nullptr);
    launch();
    MICRO_CHECK(cudaEventRecord, end, nullptr);
    MICRO_CHECK(cudaEventSynchronize, end);
    float ms = 0;
    MICRO_CHECK(cudaEventElapsedTime, &ms, begin, end);
    if (run > 0) found.push_back(ms * 1e3);
  }
  MICRO_CHECK(cudaEventDestroy, begin);
  MICRO_CHECK(cudaEventDestroy, end);
  return median(found);
}

inline void put(const char* name, double value, const char* unit, const std::string& more = "") {
  std::printf("{\"name\": \"%s\", \"value\": %.5g, \"unit\": \"%s\"%s}\n", name, value, unit,
              more.c_str());
  std::fflush(stdout);
}
inline std::string of_blocks(int blocks) { return ", \"blocks\": " + std::to_string(blocks); }

template <class T> T* memory_of(int64_t count) {
  void* memory = nullptr;
  const size_t bytes = static_cast<size_t>(count) * sizeof(T);
  MICRO_CHECK(cudaMalloc, &memory, bytes);
  MICRO_CHECK(cudaMemset, memory, 0, bytes);
  return static_cast<T*>(memory);
}

struct Card {
  cudaDeviceProp p;
  double gigahertz;
  Out out;

  // Amounts a microsecond, of all SMs, as amounts a cycle of one.
  double a_cycle(double amount, double us) const {
    return amount / us / (gigahertz * 1e3 * p.multiProcessorCount);
  }
};

inline Card card() {
  Card found{};
  int index = 0, kilohertz = 0;
  MICRO_CHECK(cudaGetDevice, &index);
  MICRO_CHECK(cudaGetDeviceProperties, &found.p, index);
  MICRO_CHECK(cudaDeviceGetAttribute, &kilohertz, cudaDevAttrClockRate, index);
  found.gigahertz = kilohertz * 1e-6;
  found.out = {nullptr, memory_of<float>(kMaxThreads), memory_of<DeviceError>(1)};
  std::printf(
      "{\"name\": \"card\", \"card\": \"%s\", \"capability\": \"%d.%d\", \"processors\": %d, "
      "\"shared_per_block\": %zu, \"l2_bytes\": %d, \"gigahertz\": %.4g}\n",
      found.p.name, found.p.major, found.p.minor, found.p.multiProcessorCount,
      found.p.sharedMemPerBlockOptin, found.p.l2CacheSize, found.gigahertz);
  return found;
}

struct Line {
  double at_zero, slope;
};
struct Points {
  std::vector<double> x, y;

  void add(double x_of, double y_of) { x.push_back(x_of), y.push_back(y_of); }
  // Least squares.
  Line line() const {
    const double n = static_cast<double>(x.size());
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (size_t i = 0; i < x.size(); ++i)
      sx += x[i], sy += y[i], sxx += x[i] * x[i], sxy += x[i] * y[i];
    const double slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
    return {(sy - slope * sx) / n, slope};
  }
};

// ---- launching ----------------------------------------------------------------------------------

struct How {
  int blocks;
  size_t shared = 0;
  cudaLaunchAttributeID together = cudaLaunchAttributeIgnore;  // a cooperative launch, or a cluster
};

// False where the device refuses it.
template <class... A> bool launch(const How& how, void (*kernel)(A...), A... arguments) {
  constexpr int kPortableCluster = 8;
  cudaLaunchAttribute attribute{};
  attribute.id = how.together;
  bool ready = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(how.shared)) == cudaSuccess;
  if (how.together == cudaLaunchAttributeCooperative) attribute.val.cooperative = 1;
  if (how.together == cudaLaunchAttributeClusterDimension) {
    attribute.val.clusterDim.x = static_cast<unsigned>(how.blocks);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    if (how.blocks > kPortableCluster)
      ready = ready && cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed,
                                            1) == cudaSuccess;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(how.blocks));
  config.blockDim = dim3(kBlockThreads);
  config.dynamicSmemBytes = how.shared;
  config.attrs = &attribute;
  config.numAttrs = 1;
  if (ready && cudaLaunchKernelEx(&config, kernel, arguments...) == cudaSuccess) return true;
  cudaGetLastError();
  return false;
}

}  // namespace gpu
}  // namespace fastrnn
