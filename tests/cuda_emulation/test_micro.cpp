// That bench/gpu's micro-benchmarks of the grid mode's steps do what they say: exchanges of each
// way bring each value to every block, and products of each tile add up. Times are a card's to
// tell.
#include <cstdio>
#include <vector>

#include "emulator.h"
#include "gpu/micro_shares.h"
#include "gpu/micro_steps.cuh"

namespace fastrnn {
namespace gpu {

namespace {

constexpr int kTimes = 3;
int wrong = 0;

// What all threads have kept.
struct Kept {
  std::vector<float> values = std::vector<float>(kMaxThreads);
  DeviceError error{};

  void check(const char* what, const Share& share, size_t bytes) const {
    for (const float found : values) {
      if (found == Out::kKept) continue;
      ++wrong;
      std::printf("%s must give %g, got %g: way %d, %d blocks, %d rows, k = %d, %d columns, %zu\n",
                  what, double(Out::kKept), double(found), int(share.way), share.blocks, share.rows,
                  share.k, share.columns, bytes);
      return;
    }
  }
};

template <class S> void exchange(const Share& share) {
  Grid grid = grid_of(share, sizeof(S));
  std::vector<unsigned> counters(kCounterStride);
  std::vector<FlaggedPair> exchanged(size_t(share.rows * share.k));
  std::vector<float> stored(size_t(share.rows * share.k));
  grid.counters = counters.data(), grid.exchanged = exchanged.data();
  Kept kept;
  const Out out{stored.data(), kept.values.data(), &kept.error};
  const bool clusters = share.way == ExchangeWay::kCluster;
  emulation::launch([&] { exchanges<S>(grid, false, Out::kKept * (1 << kTimes), kTimes, out); },
                    share.blocks, kMaxThreads, grid.at.bytes, clusters ? share.blocks : 1);
  kept.check("an exchange", share, sizeof(S));
}

template <class S> void product(const Share& share) {
  const Grid grid = grid_of(share, sizeof(S));
  const float weight = Out::kKept / float(kTimes * share.k);
  const std::vector<S> weights(size_t(share.columns * share.k), narrow<S>(weight));
  Kept kept;
  const Out out{nullptr, kept.values.data(), &kept.error};
  emulation::launch([&] { products<S>(grid, share.columns, false, kTimes, weights.data(), out); },
                    1, kMaxThreads, grid.at.bytes);
  kept.check("a product", share, sizeof(S));
}

template <class S> void products_of(const std::vector<int>& tiles, bool tensor) {
  for (const int columns : {16, 64})
    for (const int rows : tiles)
      for (const bool streams : {false, true})
        product<S>({ExchangeWay::kCounter, 1, rows, 1024, columns, tensor, streams});
}

}  // namespace

}  // namespace gpu
}  // namespace fastrnn

int main() {
  using namespace fastrnn::gpu;
  for (const ExchangeWay way : {ExchangeWay::kCounter, ExchangeWay::kFlags, ExchangeWay::kCluster})
    for (const int blocks : {1, 2, 4}) {
      exchange<float>({way, blocks, 1, 128});
      exchange<float>({way, blocks, kTileRows, 128});
      exchange<Half>({way, blocks, kMaxTensorRows, 128, 0, true});
    }
  products_of<float>({1, 4, kTileRows}, false);
  products_of<float>({kTileRows, kMaxTensorRows}, true);
  products_of<Half>({kTileRows, kMaxTensorRows}, true);
  if (wrong) return 1;
  std::printf("ok\n");
  return 0;
}
