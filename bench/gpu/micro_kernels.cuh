// The kernels that micro.cu times: the kernels' own code (csrc/cuda) in a loop, or one of its
// instructions. What one computes is kept only if it has a value that it never has, so that the
// compiler cannot leave the work out.
#pragma once

#include "cuda/exchange.cuh"
#include "cuda/product.cuh"

namespace fastrnn {
namespace gpu {

constexpr int kSharedFloats = 8192;  // 32 KiB, which every device gives without asking
constexpr int kSteps = 64;           // that a step's loads go through again and again

FASTRNN_DEVICE void keep(float sum, float* sink) {
  if (sum == -1.5f) *sink = sum;
}

FASTRNN_KERNEL barriers(unsigned* counter, int times) {
  GroupBarrier barrier{counter, unsigned(blocks())};
  for (int i = 0; i < times; ++i) {
    barrier.arrive();
    barrier.wait([] { __trap(); });
  }
}

// With arguments as large as those of a pass.
FASTRNN_KERNEL nothing(FASTRNN_ARGUMENT ForwardPass pass) {
  if (pass.H < 0) __trap();
}

FASTRNN_KERNEL fused_chains(int times, float* sink) {
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

// What one multiply_add of tensor cores multiplies and adds, and how many a warp has under way.
template <class Tag> constexpr int kTensorFused = 16 * 8 * 16;
template <> constexpr int kTensorFused<Tf32> = 16 * 8 * 8;
constexpr int kTensorChains = 4;

template <class Tag> FASTRNN_KERNEL tensor_chains(int times, float* sink) {
  float d[kTensorChains][4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  for (int i = 0; i < times; ++i) {
    FASTRNN_UNROLL
    for (int j = 0; j < kTensorChains; ++j) multiply_add(Tag{}, d[j], a, b, "micro: multiplies");
  }
  float sum = 0;
  for (int j = 0; j < kTensorChains; ++j) sum += d[j][0];
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

// ---- what the grid mode does at a step ----------------------------------------------------------

// An exchange of any way: each block publishes its units of all rows, arrives, stores as much that
// nobody waits for, waits, and stages all rows. stages_only: that last part alone, of rows that are
// there.
template <class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    exchanges(FASTRNN_ARGUMENT Grid grid, bool stages_only, int times, float* stored, float* sink) {
  const auto give_up = [] { __trap(); };
  const int rank = block() % grid.blocks_per_group, begin = rank * grid.units;
  const int units = grid.k - begin < grid.units ? grid.k - begin : grid.units;
  Exchange<S> exchange{grid, grid.k, 0};
  exchange.set_up();
  sync_block("micro: the exchange is set up");
  const auto for_units = [&](auto f) {
    for (Cells cell(units, thread(), threads()); cell.row < grid.rows; cell.next())
      f(cell.row, begin + cell.column);
  };
  float value = 0;
  for (int i = 0; i < times; ++i) {
    if (!stages_only) {
      for_units([&](int r, int u) { exchange.publish(r, 0, u, narrow<S>(value)); });
      exchange.arrive();
      for_units([&](int r, int u) { exchange_store(stored + r * grid.k + u, value); });
      exchange.wait(give_up);
    }
    exchange.stage({0, grid.rows, grid.tile_rows, 0, grid.k}, give_up);
    sync_block("micro: the rows are staged");
    value = 0.5f * widen(exchange.staged()[thread() % grid.k]);
    sync_block("micro: the rows are used");
  }
  exchange.end();
  keep(value, sink);
}

// A block's product, whose weights in memory are `columns` rows of k values; with `sets_up` only
// what brings those that stay in shared memory there.
template <class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    products(FASTRNN_ARGUMENT Grid grid, int columns, bool sets_up, int times, const S* from,
             float* sink) {
  const auto part = [&](int at) { return shared_memory() + at; };
  S* const weights = reinterpret_cast<S*>(part(grid.at.weights));
  S* const staged = reinterpret_cast<S*>(part(grid.at.staged));
  float* const made = reinterpret_cast<float*>(part(grid.at.sums));
  const Product<S> product{grid, columns, weights, reinterpret_cast<S*>(part(grid.at.streamed)),
                           made};
  const auto load = [&](S* to, int stride, int begin, int n) {
    copy_to_shared(to, stride, columns, {grid.k, begin, n, true},
                   [&](int c) { return from + int64_t(c) * grid.k; });
  };
  for (int i = thread(); i < grid.tile_rows * grid.staged_stride; i += threads())
    staged[i] = narrow<S>(0.0f);
  load(weights, grid.resident_stride, 0, grid.resident);
  sync_block("micro: the block is set up");
  float sum = 0;
  for (int i = 0; i < times; ++i) {
    if (sets_up) {
      load(weights, grid.resident_stride, 0, grid.resident);
      sync_block("micro: the weights are here");
      sum += widen(weights[thread()]);
      continue;
    }
    const auto nothing_to_stage = [](int, int, int) {};
    const PartialSums sums = multiply(product, staged, grid.rows, nothing_to_stage, load);
    sync_block("micro: sums are made");
    sum += sums(0, thread() % columns);
  }
  keep(sum, sink);
}

// ---- clusters: these trap where the code is for a device without them ---------------------------

FASTRNN_KERNEL cluster_barrier(int times) {
  for (int i = 0; i < times; ++i) sync_cluster("micro: the cluster is here");
}

// Each load of another block's memory says where the next one is.
FASTRNN_KERNEL cluster_chase(int times, float* sink) {
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
  keep(at > unsigned(kPlaces) ? -1.5f : 0.0f, sink);
}

}  // namespace gpu
}  // namespace fastrnn
