// The numbers that the model of csrc/cuda/costs.h takes (its `Costs`), measured on this card by the
// code of the kernels themselves: exchanges of each way, stagings, products, weights; and beside
// them the latencies that bound them. JSON lines; a number of `Costs` has its name there. Rates are
// those of one SM in a cycle of the clock that the device names, which is the one that the model
// uses.
//
//   nvcc -O3 -std=c++17 --fmad=false -arch=native -Icsrc bench/gpu/micro.cu -o micro && ./micro
#include <chrono>
#include <utility>

#include "micro_card.cuh"
#include "micro_kernels.cuh"
#include "micro_shares.h"

namespace fastrnn {
namespace gpu {

namespace {

// ---- the device ---------------------------------------------------------------------------------

// As in the grid mode, one block on each SM.
double barrier_of(const Card& c, unsigned* counter, int count) {
  constexpr int kTimes = 2000;
  const How how{count, c.p.sharedMemPerBlockOptin, cudaLaunchAttributeCooperative};
  const double us = microseconds([&] {
    MICRO_CHECK(cudaMemsetAsync, counter, 0, sizeof(unsigned), nullptr);
    if (!launch(how, barriers, counter, kTimes, c.out)) check("launch", cudaErrorLaunchFailure);
  });
  return us / kTimes;
}

Line measure_barriers(const Card& c) {
  auto* counter = memory_of<unsigned>(1);
  Points points;
  const int most = c.p.multiProcessorCount;
  for (int n = 2; n < 2 * most; n *= 2) {
    const int count = std::min(n, most);
    const double us = barrier_of(c, counter, count);
    put("barrier_of", us, "us", of_blocks(count));
    points.add(count, us);
  }
  MICRO_CHECK(cudaFree, counter);
  return points.line();
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

double measure_fused(const Card& c) {
  constexpr int kTimes = 20000, kChains = 16;
  const int sms = c.p.multiProcessorCount;
  const double us = microseconds([&] { fused_chains<<<sms, kBlockThreads>>>(kTimes, c.out); });
  return c.a_cycle(double(sms) * kBlockThreads * kChains * kTimes, us);
}

template <class Tag> double measure_tensor_fused(const Card& c) {
  constexpr int kTimes = 20000, kWarps = kBlockThreads / kLanes;
  const int sms = c.p.multiProcessorCount;
  const double us =
      microseconds([&] { tensor_chains<Tag><<<sms, kBlockThreads>>>(kTimes, c.out); });
  return c.a_cycle(double(sms) * kWarps * kTensorChains * kTensorFused<Tag> * kTimes, us);
}

double measure_shared(const Card& c) {
  constexpr int kTimes = 20000;
  const int sms = c.p.multiProcessorCount;
  const double us = microseconds(
      [&] { read_shared<<<sms, kBlockThreads, kSharedFloats * sizeof(float)>>>(kTimes, c.out); });
  return c.a_cycle(double(sms) * kBlockThreads * 16 * kTimes, us);
}

double measure_streamed(const Card& c, int64_t bytes) {
  constexpr int kTimes = 8;
  auto* from = memory_of<float4>(bytes / 16);
  const int count = 8 * c.p.multiProcessorCount;
  const double us = microseconds([&] {
    for (int i = 0; i < kTimes; ++i)
      read_streamed<<<count, kBlockThreads>>>(from, bytes / 16, c.out);
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

// A node of a graph that is replayed, and what the host takes to make a graph of one.
void measure_graphs() {
  constexpr int kNodes = 1000;
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  const auto began = std::chrono::steady_clock::now();
  MICRO_CHECK(cudaStreamCreateWithFlags, &stream, cudaStreamNonBlocking);
  MICRO_CHECK(cudaStreamBeginCapture, stream, cudaStreamCaptureModeThreadLocal);
  for (int i = 0; i < kNodes; ++i) nothing<<<1, kLanes, 0, stream>>>(ForwardPass{});
  MICRO_CHECK(cudaStreamEndCapture, stream, &graph);
  MICRO_CHECK(cudaGraphInstantiate, &ready, graph, 0);
  const std::chrono::duration<double, std::micro> made = std::chrono::steady_clock::now() - began;
  put("graph_node_made", made.count() / kNodes, "us");
  const double us = microseconds([&] { MICRO_CHECK(cudaGraphLaunch, ready, cudaStream_t{}); });
  put("graph_node", us / kNodes, "us");
  MICRO_CHECK(cudaGraphExecDestroy, ready);
  MICRO_CHECK(cudaGraphDestroy, graph);
  MICRO_CHECK(cudaStreamDestroy, stream);
}

// ---- a step's exchange --------------------------------------------------------------------------

constexpr int kExchanged = 512;  // values of a row

// Of an exchange, or with `stages_only` of a staging; below 0 where the device refuses it.
template <class S> double exchange_of(const Card& c, const Share& share, bool stages_only) {
  constexpr int kTimes = 2000;
  const bool clusters = share.way == ExchangeWay::kCluster;
  Grid grid = grid_of(share, sizeof(S));
  if (grid.at.bytes > static_cast<int64_t>(c.p.sharedMemPerBlockOptin)) return -1;
  const int64_t words = int64_t{2} * share.rows * share.k;
  auto* counters = memory_of<unsigned>(kCounterStride);
  auto* exchanged = memory_of<Flagged>(words);
  Out out = c.out;
  out.stored = memory_of<float>(words);
  grid.counters = counters, grid.exchanged = exchanged;
  const How how{share.blocks, c.p.sharedMemPerBlockOptin,
                clusters ? cudaLaunchAttributeClusterDimension : cudaLaunchAttributeCooperative};
  bool launched = true;
  const double us = microseconds([&] {
    MICRO_CHECK(cudaMemsetAsync, counters, 0, sizeof(unsigned), nullptr);
    MICRO_CHECK(cudaMemsetAsync, exchanged, 0, static_cast<size_t>(words) * sizeof(Flagged),
                nullptr);
    launched = launched && launch(how, exchanges<S>, grid, stages_only, 1.0f, kTimes, out);
  });
  MICRO_CHECK(cudaFree, counters);
  MICRO_CHECK(cudaFree, exchanged);
  MICRO_CHECK(cudaFree, out.stored);
  return launched ? us / kTimes : -1;
}

template <class S> double measure_exchange(const Card& c, const Share& share) {
  static const char* const names[] = {"exchange_grid", "exchange_flags", "exchange_cluster"};
  const double us = exchange_of<S>(c, share, false);
  if (us > 0)
    put(names[static_cast<int>(share.way)], us, "us",
        of_blocks(share.blocks) + ", \"rows\": " + std::to_string(share.rows) +
            ", \"bytes\": " + std::to_string(sizeof(S)));
  return us;
}

// Each way over numbers of blocks and rows. What one costs beyond its staging is a number of
// `Costs`, of eight blocks and a row, for the two ways that a line through barriers does not give.
template <class Cost> void measure_exchanges(const Card& c, bool clusters, Cost cost) {
  const auto staging_of = [&](ExchangeWay way) {
    return exchange_of<float>(c, {way, 1, 1, kExchanged}, true);
  };
  const auto over = [&](ExchangeWay way, const std::vector<int>& counts) {
    double of_eight = -1;
    for (int count : counts) {
      if (count > c.p.multiProcessorCount) continue;
      const double us = measure_exchange<float>(c, {way, count, 1, kExchanged});
      if (count == 8) of_eight = us;
      measure_exchange<float>(c, {way, count, kTileRows, kExchanged});
      measure_exchange<Half>(c, {way, count, kMaxTensorRows, kExchanged, 0, true});
    }
    return of_eight;
  };
  const double staging = staging_of(ExchangeWay::kCounter);
  cost("staging", staging, "us");
  over(ExchangeWay::kCounter, {2, 8, 32, 128});
  const double flags = over(ExchangeWay::kFlags, {2, 8, 32, 128});
  cost("flags", flags - staging_of(ExchangeWay::kFlags), "us");
  if (!clusters) return;
  const double cluster = over(ExchangeWay::kCluster, {2, 4, 8, 16});
  if (cluster > 0) cost("cluster", cluster, "us");
}

// ---- a step's product ---------------------------------------------------------------------------

// All SMs do the same; below 0 where a block is too large.
template <class S> double product_of(const Card& c, const Share& share, bool sets_up) {
  constexpr int kTimes = 500;
  const Grid grid = grid_of(share, sizeof(S));
  const auto shared = static_cast<size_t>(grid.at.bytes);
  if (shared > c.p.sharedMemPerBlockOptin) return -1;
  auto* weights = memory_of<S>(int64_t{share.columns} * share.k);
  const How how{c.p.multiProcessorCount, shared};
  bool launched = true;
  const double us = microseconds([&] {
    launched = launched && launch(how, products<S>, grid, share.columns, sets_up, kTimes,
                                  static_cast<const S*>(weights), c.out);
  });
  MICRO_CHECK(cudaFree, weights);
  return launched ? us / kTimes : -1;
}

// Rates of one SM in a cycle, as they were measured.
struct Rates {
  double fused, tensor_fused, shared_bytes;
};

// What the rates alone would take of a product, as the planner's model has it.
double rated(const Card& c, const Share& s, int bytes, const Rates& rates) {
  const int wide = s.tensor ? kTensorColumns : kTileColumns;
  const double k = s.k, tiles = (s.columns + wide - 1) / wide;
  const double rate = s.tensor ? rates.tensor_fused * 2 / bytes : rates.fused;
  const double cycles = std::max(k * s.rows * s.columns / rate,
                                 tiles * k * bytes * (s.rows + wide) / rates.shared_bytes);
  return cycles / (c.gigahertz * 1e3);
}

std::string of_product(const Share& s, int bytes) {
  return ", \"columns\": " + std::to_string(s.columns) + ", \"k\": " + std::to_string(s.k) +
         ", \"rows\": " + std::to_string(s.rows) + ", \"bytes\": " + std::to_string(bytes) +
         ", \"tensor\": " + (s.tensor ? "true" : "false");
}

// points: each against what the rates alone would take.
template <class S> void measure_products(const Card& c, const std::vector<int>& tiles, bool tensor,
                                         const Rates& rates, Points* points) {
  for (const auto [columns, k] : {std::pair{16, 512}, {32, 1024}, {64, 512}, {128, 256}}) {
    Share share{ExchangeWay::kCounter, 1, 1, k, columns, tensor};
    for (int rows : tiles) {
      share.rows = rows;
      share.streams = true;
      const double streamed = product_of<S>(c, share, false);
      if (streamed > 0) put("product_streamed", streamed, "us", of_product(share, sizeof(S)));
      share.streams = false;
      const double us = product_of<S>(c, share, false);
      if (us < 0) continue;
      put("product", us, "us", of_product(share, sizeof(S)));
      points->add(rated(c, share, sizeof(S), rates), us);
    }
    const double us = product_of<S>(c, share, true);
    if (us > 0) put("weights_set_up", us, "us", of_product(share, sizeof(S)));
  }
}

// Its slope is a number of `Costs`, and where it begins is a part of the latency of a tile.
Line slowdown_of(const Card& c, const Rates& rates) {
  Points points;
  measure_products<float>(c, {1, 4, kTileRows}, false, rates, &points);
  const std::vector<int> tiles = {kTileRows, 2 * kTileRows, kMaxTensorRows};
  measure_products<Half>(c, tiles, true, rates, &points);
  if (c.p.major >= 8) measure_products<float>(c, tiles, true, rates, &points);
  return points.line();
}

// ---- clusters -----------------------------------------------------------------------------------

// Whether the code that this device runs was compiled for one that has clusters.
bool has_clusters(const Card& c) {
  if (c.p.major < 9) return false;
  cudaFuncAttributes attributes;
  MICRO_CHECK(cudaFuncGetAttributes, &attributes, cluster_barrier);
  return std::min(attributes.ptxVersion, attributes.binaryVersion) >= 90;
}

// What bounds the exchange of a cluster: its own barrier, and a load from another block.
void measure_clusters(const Card& c) {
  constexpr int kTimes = 2000;
  for (int count : {2, 4, 8, 16}) {
    const How how{count, c.p.sharedMemPerBlockOptin, cudaLaunchAttributeClusterDimension};
    if (!launch(how, cluster_barrier, 1)) continue;
    const double us = microseconds([&] { launch(how, cluster_barrier, kTimes); });
    put("cluster_barrier", us / kTimes, "us", of_blocks(count));
  }
  const How how{2, 1024 * sizeof(unsigned), cudaLaunchAttributeClusterDimension};
  const double us = microseconds([&] { launch(how, cluster_chase, kTimes, c.out); });
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
  cost("launch", measure_launch(), "us");
  measure_graphs();
  const Rates rates{measure_fused(c), measure_tensor_fused<Half>(c), measure_shared(c)};
  cost("fused", rates.fused, "a cycle");
  cost("tensor_fused", rates.tensor_fused, "a cycle");
  cost("shared_bytes", rates.shared_bytes, "a cycle");
  if (c.p.major >= 8) put("tensor_fused_tf32", measure_tensor_fused<Tf32>(c), "a cycle");
  if (has_clusters(c)) measure_clusters(c);
  measure_exchanges(c, has_clusters(c), cost);
  const Line products_line = slowdown_of(c, rates);
  put("product_latency", products_line.at_zero, "us");
  cost("slowdown", products_line.slope, "of the rates");
  cost("streamed_bytes", measure_streamed(c, c.p.l2CacheSize / 2), "a cycle");
  put("streamed_bytes_memory", measure_streamed(c, int64_t{8} * c.p.l2CacheSize), "a cycle");
  MICRO_CHECK(cudaDeviceSynchronize);
  std::fprintf(stderr, "In csrc/cuda/costs.h replace, of `Costs` for this capability:\n");
  for (const auto& [name, value] : costs) std::fprintf(stderr, "  %s = %.3g\n", name, value);
}

}  // namespace

}  // namespace gpu
}  // namespace fastrnn

int main() {
  fastrnn::gpu::measure();
  return 0;
}
