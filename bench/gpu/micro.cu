// The numbers that the model of csrc/cuda/costs.h takes (its `Costs`), measured on this card, and
// the latencies that tell whether another way to exchange h would pay: L2, the barrier of a
// cluster, shared memory of other blocks. JSON lines; a number of `Costs` has its name there. Rates
// are those of one SM in a cycle of the clock that the device names, which is the one that the
// model uses.
//
//   nvcc -O3 -std=c++17 --fmad=false -arch=native -Icsrc bench/gpu/micro.cu -o micro && ./micro
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "micro_kernels.cuh"

namespace fastrnn {
namespace gpu {

namespace {

constexpr int kRuns = 9;  // of each measurement: their median counts
constexpr int kBlockThreads = 256;

void check(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "[micro] %s must succeed, got %s: %s\n", call, cudaGetErrorName(error),
               cudaGetErrorString(error));
  std::exit(1);
}
#define MICRO_CHECK(call, ...) check(#call, call(__VA_ARGS__))

// ---- measuring ----------------------------------------------------------------------------------

double median(std::vector<double> values) {
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

void put(const char* name, double value, const char* unit, const std::string& more = "") {
  std::printf("{\"name\": \"%s\", \"value\": %.5g, \"unit\": \"%s\"%s}\n", name, value, unit,
              more.c_str());
  std::fflush(stdout);
}
std::string of_blocks(int blocks) { return ", \"blocks\": " + std::to_string(blocks); }

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
  float* sink;

  // Amounts a microsecond, of all SMs, as amounts a cycle of one.
  double a_cycle(double amount, double us) const {
    return amount / us / (gigahertz * 1e3 * p.multiProcessorCount);
  }
};

Card card() {
  Card found{};
  int index = 0, kilohertz = 0;
  MICRO_CHECK(cudaGetDevice, &index);
  MICRO_CHECK(cudaGetDeviceProperties, &found.p, index);
  MICRO_CHECK(cudaDeviceGetAttribute, &kilohertz, cudaDevAttrClockRate, index);
  found.gigahertz = kilohertz * 1e-6;
  found.sink = memory_of<float>(1);
  std::printf(
      "{\"name\": \"card\", \"card\": \"%s\", \"capability\": \"%d.%d\", \"processors\": %d, "
      "\"shared_per_block\": %zu, \"l2_bytes\": %d, \"gigahertz\": %.4g}\n",
      found.p.name, found.p.major, found.p.minor, found.p.multiProcessorCount,
      found.p.sharedMemPerBlockOptin, found.p.l2CacheSize, found.gigahertz);
  return found;
}

// A line through the points (x, y), least squares.
struct Line {
  double at_zero, slope;
};
Line line_through(const std::vector<double>& x, const std::vector<double>& y) {
  const double n = static_cast<double>(x.size());
  double sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (size_t i = 0; i < x.size(); ++i)
    sx += x[i], sy += y[i], sxx += x[i] * x[i], sxy += x[i] * y[i];
  const double slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
  return {(sy - slope * sx) / n, slope};
}

double barrier_of(const Card& c, unsigned* counter, int count) {
  int times = 2000;
  void* arguments[] = {&counter, &times};
  const size_t shared = c.p.sharedMemPerBlockOptin;  // one block on each SM, as in the grid mode
  MICRO_CHECK(cudaFuncSetAttribute, barriers, cudaFuncAttributeMaxDynamicSharedMemorySize,
              static_cast<int>(shared));
  const double us = microseconds([&] {
    MICRO_CHECK(cudaMemsetAsync, counter, 0, sizeof(unsigned), nullptr);
    MICRO_CHECK(cudaLaunchCooperativeKernel, reinterpret_cast<const void*>(barriers),
                dim3(static_cast<unsigned>(count)), dim3(kBlockThreads), arguments, shared,
                cudaStream_t{});
  });
  return us / times;
}

Line measure_barriers(const Card& c) {
  auto* counter = memory_of<unsigned>(1);
  std::vector<double> counts, times;
  const int most = c.p.multiProcessorCount;
  for (int n = 2; n < 2 * most; n *= 2) {
    const int count = std::min(n, most);
    const double us = barrier_of(c, counter, count);
    put("barrier_of", us, "us", of_blocks(count));
    counts.push_back(count);
    times.push_back(us);
  }
  MICRO_CHECK(cudaFree, counter);
  return line_through(counts, times);
}

double measure_launch() {
  constexpr int kTimes = 1000;
  const ForwardPass pass{};
  const double us = microseconds([&] {
    for (int i = 0; i < kTimes; ++i) nothing<<<1, kLanes>>>(pass);
    MICRO_CHECK(cudaGetLastError);
  });
  return us / kTimes;
}

double measure_multiply_add(const Card& c) {
  constexpr int kTimes = 20000, kChains = 16;
  const int sms = c.p.multiProcessorCount;
  const double us = microseconds([&] { multiply_add<<<sms, kBlockThreads>>>(kTimes, c.sink); });
  return c.a_cycle(double(sms) * kBlockThreads * kChains * kTimes, us);
}

double measure_shared(const Card& c) {
  constexpr int kTimes = 20000;
  const int sms = c.p.multiProcessorCount;
  const double us = microseconds(
      [&] { read_shared<<<sms, kBlockThreads, kSharedFloats * sizeof(float)>>>(kTimes, c.sink); });
  return c.a_cycle(double(sms) * kBlockThreads * 16 * kTimes, us);
}

double measure_exchanged(const Card& c) {
  constexpr int kTimes = 4096;
  const int sms = c.p.multiProcessorCount;
  auto* from = memory_of<float>(kExchanged);
  const double us =
      microseconds([&] { read_exchanged<<<sms, kBlockThreads>>>(from, kTimes, c.sink); });
  MICRO_CHECK(cudaFree, from);
  return c.a_cycle(double(sms) * kBlockThreads * 4 * kTimes, us);
}

double measure_streamed(const Card& c, int64_t bytes) {
  constexpr int kTimes = 8;
  auto* from = memory_of<float4>(bytes / 16);
  const int count = 8 * c.p.multiProcessorCount;
  const double us = microseconds([&] {
    for (int i = 0; i < kTimes; ++i)
      read_streamed<<<count, kBlockThreads>>>(from, bytes / 16, c.sink);
  });
  MICRO_CHECK(cudaFree, from);
  return c.a_cycle(static_cast<double>(bytes) * kTimes, us);
}

double l2_nanoseconds() {
  constexpr int kLines = 4096, kLine = 32, kTimes = 20000;  // 512 KiB, a load for each line
  std::vector<unsigned> next(kLines * kLine);
  for (int i = 0; i < kLines; ++i)
    next[static_cast<size_t>(i * kLine)] = static_cast<unsigned>((i + 1037) % kLines * kLine);
  auto* memory = memory_of<unsigned>(kLines * kLine);
  auto* last = memory_of<unsigned>(1);
  MICRO_CHECK(cudaMemcpy, memory, next.data(), next.size() * sizeof(unsigned),
              cudaMemcpyHostToDevice);
  const double us = microseconds([&] { chase<<<1, 1>>>(memory, kTimes, last); });
  MICRO_CHECK(cudaFree, memory);
  MICRO_CHECK(cudaFree, last);
  return us * 1e3 / kTimes;
}

double measure_step() {
  constexpr int kTimes = 4000;
  auto* x = memory_of<float>(kSteps * kBlockThreads);
  auto* y = memory_of<float>(kBlockThreads);
  const double us = microseconds([&] { step_chain<<<1, kBlockThreads>>>(x, kTimes, y); });
  MICRO_CHECK(cudaFree, x);
  MICRO_CHECK(cudaFree, y);
  return us / kTimes;
}

double measure_staging(const Card& c) {
  constexpr int kTimes = 4000;
  auto* rows = memory_of<float>(kRows * kChunk);
  const double us = microseconds(
      [&] { stage_row<<<1, kBlockThreads, kChunk * sizeof(float)>>>(rows, kTimes, c.sink); });
  MICRO_CHECK(cudaFree, rows);
  return us / kTimes;
}

// Launches one cluster of `count` blocks; false where the device refuses it.
template <class... A>
bool launch_cluster(int count, size_t shared, void (*kernel)(A...), A... arguments) {
  constexpr int kPortable = 8;
  if (count > kPortable &&
      cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) !=
          cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(count);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(count));
  config.blockDim = dim3(kBlockThreads);
  config.dynamicSmemBytes = shared;
  config.attrs = &attribute;
  config.numAttrs = 1;
  const bool launched = cudaLaunchKernelEx(&config, kernel, arguments...) == cudaSuccess;
  if (!launched) cudaGetLastError();
  return launched;
}

// Whether the code that this device runs was compiled for one that has clusters.
bool has_clusters(const Card& c) {
  if (c.p.major < 9) return false;
  cudaFuncAttributes attributes;
  MICRO_CHECK(cudaFuncGetAttributes, &attributes, cluster_barrier);
  return std::min(attributes.ptxVersion, attributes.binaryVersion) >= 90;
}

void measure_clusters(const Card& c) {
  constexpr int kTimes = 2000;
  for (int count : {2, 4, 8, 16}) {
    const size_t shared = size_t(2) * static_cast<size_t>(count) * kBlockThreads * sizeof(float);
    if (!launch_cluster(count, 0, cluster_barrier, 1) ||
        !launch_cluster(count, shared, cluster_exchange, 1, c.sink))
      continue;
    const double barrier = microseconds([&] { launch_cluster(count, 0, cluster_barrier, kTimes); });
    put("cluster_barrier", barrier / kTimes, "us", of_blocks(count));
    const double exchange =
        microseconds([&] { launch_cluster(count, shared, cluster_exchange, kTimes, c.sink); });
    put("cluster_exchange", exchange / kTimes, "us",
        of_blocks(count) + ", \"floats_of_block\": " + std::to_string(kBlockThreads));
  }
  const double us = microseconds(
      [&] { launch_cluster(2, 1024 * sizeof(unsigned), cluster_chase, kTimes, c.sink); });
  put("dsmem_latency", us * 1e3 / kTimes, "ns");
}

void measure() {
  const Card c = card();
  put("l2_latency", l2_nanoseconds(), "ns");
  const Line barrier_line = measure_barriers(c);
  std::vector<std::pair<const char*, double>> costs;
  // Each is said as soon as it is known: what comes after it may not end.
  const auto cost = [&](const char* name, double value, const char* unit) {
    put(name, value, unit);
    costs.emplace_back(name, value);
  };
  cost("barrier", barrier_line.at_zero, "us");
  cost("barrier_per_block", barrier_line.slope, "us");
  put("step", measure_step(), "us");
  put("staging", measure_staging(c), "us");
  cost("launch", measure_launch(), "us");
  cost("fused", measure_multiply_add(c), "a cycle");
  cost("shared_bytes", measure_shared(c), "a cycle");
  put("exchanged_bytes", measure_exchanged(c), "a cycle");
  cost("streamed_bytes", measure_streamed(c, c.p.l2CacheSize / 2), "a cycle");
  put("streamed_bytes_memory", measure_streamed(c, int64_t{8} * c.p.l2CacheSize), "a cycle");
  if (has_clusters(c)) measure_clusters(c);
  MICRO_CHECK(cudaDeviceSynchronize);
  std::fprintf(stderr, "In csrc/cuda/costs.h replace, of `Costs`:\n");
  for (const auto& [name, value] : costs)
    std::fprintf(stderr, "  double %s = %.3g;\n", name, value);
}

}  // namespace

}  // namespace gpu
}  // namespace fastrnn

int main() {
  fastrnn::gpu::measure();
  return 0;
}
