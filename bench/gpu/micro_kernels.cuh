// The kernels that micro.cu times of instructions, launches and memory; those of the grid mode's
// own code are in micro_steps.cuh.
#pragma once

#include "micro_steps.cuh"

namespace fastrnn {
namespace gpu {

constexpr int kSharedFloats = 8192;  // 32 KiB, which every device gives without asking
constexpr int kSteps = 64;           // that a step's loads go through again and again

// With arguments as large as those of a pass.
FASTRNN_KERNEL nothing(FASTRNN_ARGUMENT ForwardPass pass) {
  if (pass.H < 0) __trap();
}

FASTRNN_KERNEL fused_chains(int times, Out out) {
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
  out.keep(sum);
}

// What one multiply_add of tensor cores multiplies and adds, and how many a warp has under way.
template <class Tag> constexpr int kTensorFused = 16 * 8 * 16;
template <> constexpr int kTensorFused<Tf32> = 16 * 8 * 8;
constexpr int kTensorChains = 4;

template <class Tag> FASTRNN_KERNEL tensor_chains(int times, Out out) {
  float d[kTensorChains][4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  for (int i = 0; i < times; ++i) {
    FASTRNN_UNROLL
    for (int j = 0; j < kTensorChains; ++j) multiply_add(Tag{}, d[j], a, b, "micro: multiplies");
  }
  float sum = 0;
  for (int j = 0; j < kTensorChains; ++j) sum += d[j][0];
  out.keep(sum);
}

// Sixteen bytes at a time, as the product reads rows.
FASTRNN_KERNEL read_shared(int times, Out out) {
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
  out.keep(sum.v[0] + sum.v[1] + sum.v[2] + sum.v[3]);
}

// Sixteen bytes a thread; all blocks together read everything once.
FASTRNN_KERNEL read_streamed(const float4* from, int64_t quads, Out out) {
  float sum = 0;
  const int64_t all = int64_t(blocks()) * threads();
#pragma unroll 8
  for (int64_t i = int64_t(block()) * threads() + thread(); i < quads; i += all) {
    const float4 q = __ldcg(from + i);
    sum += q.x + q.y + q.z + q.w;
  }
  out.keep(sum);
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

// Each load of another block's memory says where the next one is. Traps where the code is for a
// device without clusters.
FASTRNN_KERNEL cluster_chase(int times, Out out) {
  auto* memory = reinterpret_cast<unsigned*>(shared_memory());
  constexpr int kPlaces = 1024;
  for (int i = thread(); i < kPlaces; i += threads()) memory[i] = unsigned(i + 33) % kPlaces;
  sync_cluster("micro: places are filled");
  unsigned at = 0;
  if constexpr (kHasClusters)
    if (thread() == 0)
      for (int i = 0; i < times; ++i)
        asm volatile("ld.shared::cluster.u32 %0, [%1];"
                     : "=r"(at)
                     : "r"(remote_address(memory + at, cluster_rank() ^ 1)));
  sync_cluster("micro: places are read");
  out.keep(at > unsigned(kPlaces) ? -1.5f : 0.0f);
}

}  // namespace gpu
}  // namespace fastrnn
