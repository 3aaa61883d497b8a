// The kernels that micro.cu times. What one computes is kept only if it has a value that it never
// has, so that the compiler cannot leave the work out.
#pragma once

#include <cooperative_groups.h>

#include "cuda/product.cuh"

namespace fastrnn {
namespace gpu {

constexpr int kSharedFloats = 8192;  // 32 KiB, which every device gives without asking
// What is read again and again; powers of two, so that to wrap around costs nothing.
constexpr int kExchanged = 8 * 1024;  // eight rows of H = 1024
constexpr int kSteps = 64, kRows = 8;

FASTRNN_DEVICE void keep(float sum, float* sink) {
  if (sum == -1.5f) *sink = sum;
}

FASTRNN_KERNEL barriers(unsigned* counter, int times) {
  GroupBarrier barrier{counter, unsigned(blocks())};
  for (int i = 0; i < times; ++i) barrier.arrive_and_wait([] { __trap(); });
}

// With arguments as large as those of a pass.
FASTRNN_KERNEL nothing(FASTRNN_ARGUMENT ForwardPass pass) {
  if (pass.H < 0) __trap();
}

FASTRNN_KERNEL multiply_add(int times, float* sink) {
  constexpr int kChains = 16;
  float v[kChains];
  FASTRNN_UNROLL
  for (int j = 0; j < kChains; ++j) v[j] = float(thread() + j);
  for (int i = 0; i < times; ++i) {
    FASTRNN_UNROLL
    for (int j = 0; j < kChains; ++j) v[j] = fused(v[j], 0.5f, 1.0f);
  }
  float sum = 0;
  for (int j = 0; j < kChains; ++j) sum += v[j];
  keep(sum, sink);
}

// Sixteen bytes at a time, as the product reads rows.
FASTRNN_KERNEL read_shared(int times, float* sink) {
  constexpr int kQuads = kSharedFloats / 4;
  auto* quads = reinterpret_cast<Quad<float>*>(shared_memory());
  for (int i = thread(); i < kQuads; i += threads()) quads[i] = Quad<float>{{1, 1, 1, 1}};
  sync_block("micro: shared memory is filled");
  Quad<float> sum{{0, 0, 0, 0}};
#pragma unroll 8
  for (int i = 0; i < times; ++i) {
    const Quad<float> q = quads[(i * threads() + thread()) % kQuads];
    FASTRNN_UNROLL
    for (int j = 0; j < 4; ++j) sum.v[j] += q.v[j];
  }
  keep(sum.v[0] + sum.v[1] + sum.v[2] + sum.v[3], sink);
}

// Four bytes a thread, as rows are staged; every block reads the same, as the blocks of a group do.
FASTRNN_KERNEL read_exchanged(const float* from, int times, float* sink) {
  float sum = 0;
#pragma unroll 16
  for (int i = 0; i < times; ++i)
    sum += exchange_load(from + (i * threads() + thread()) % kExchanged);
  keep(sum, sink);
}

// Sixteen bytes a thread; all blocks together read everything once.
FASTRNN_KERNEL read_streamed(const float4* from, int64_t quads, float* sink) {
  float sum = 0;
  const int64_t all = int64_t(blocks()) * threads();
#pragma unroll 8
  for (int64_t i = int64_t(block()) * threads() + thread(); i < quads; i += all) {
    const float4 q = __ldcg(from + i);
    sum += q.x + q.y + q.z + q.w;
  }
  keep(sum, sink);
}

FASTRNN_KERNEL chase(const unsigned* next, int times, unsigned* last) {
  unsigned at = 0;
  for (int i = 0; i < times; ++i) at = __ldcg(next + at);
  *last = at;
}

// What a step does beside its product: it loads, goes through a cell's functions, stores, and waits
// for the block.
FASTRNN_KERNEL step_chain(const float* x, int times, float* y) {
  Real<float> h(0.0f);
  for (int i = 0; i < times; ++i) {
    const Real<float> gate = Real<float>(exchange_load(x + i % kSteps * threads() + thread())) + h;
    h = sigmoid_of(gate) * tanh_of(gate);
    h = h * tanh_of(h);
    exchange_store(y + thread(), h.v);
    sync_block("micro: the step is done");
  }
}

// One row into shared memory, as the product's rows come there.
FASTRNN_KERNEL stage_row(const float* rows, int times, float* sink) {
  auto* staged = reinterpret_cast<float*>(shared_memory());
  const Product<float> product{{kChunk, 1}, nullptr, 0, staged, nullptr};
  for (int i = 0; i < times; ++i) {
    const float* row = rows + i % kRows * kChunk;
    stage<1>(product, 1, 0, kChunk, [=](int, int) { return row; });
    sync_block("micro: the row is staged");
  }
  keep(staged[thread()], sink);
}

// ---- clusters: empty where the code is for a device without them --------------------------------

FASTRNN_KERNEL cluster_barrier(int times) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  for (int i = 0; i < times; ++i) cluster.sync();
#endif
}

// A step's exchange: each block gives a value of each thread to all blocks of its cluster,
// waits for them, and reads what it was given. Two buffers, so that nobody waits twice.
FASTRNN_KERNEL cluster_exchange(int times, float* sink) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  auto* memory = reinterpret_cast<float*>(shared_memory());
  const int ranks = int(cluster.num_blocks()), rank = int(cluster.block_rank());
  float value = float(thread());
  cluster.sync();  // everyone's memory is there
  for (int i = 0; i < times; ++i) {
    float* buffer = memory + i % 2 * ranks * threads();
    for (int r = 0; r < ranks; ++r)
      cluster.map_shared_rank(buffer, r)[rank * threads() + thread()] = value;
    cluster.sync();
    value = 0;
    for (int r = 0; r < ranks; ++r) value += buffer[r * threads() + thread()];
    value *= 0.5f;
  }
  cluster.sync();  // nobody leaves while others may still write to it
  keep(value, sink);
#endif
}

FASTRNN_KERNEL cluster_chase(int times, float* sink) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  auto* memory = reinterpret_cast<unsigned*>(shared_memory());
  constexpr int kPlaces = 1024;
  for (int i = thread(); i < kPlaces; i += threads()) memory[i] = unsigned(i + 33) % kPlaces;
  cluster.sync();
  const unsigned* remote = cluster.map_shared_rank(memory, int(cluster.block_rank()) ^ 1);
  unsigned at = 0;
  if (thread() == 0)
    for (int i = 0; i < times; ++i) at = remote[at];
  cluster.sync();
  keep(at > unsigned(kPlaces) ? -1.5f : 0.0f, sink);
#endif
}

}  // namespace gpu
}  // namespace fastrnn
