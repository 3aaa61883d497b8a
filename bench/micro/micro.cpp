// Times the engine's parts without its drivers, as JSON; bench/micro/__main__.py compiles this.
//
//   tile_gflops   rows -> the tile over four vectors, weights in L2, one core
//   gates_ns      cell -> forward of one vector of units, results independent of each other
//   barrier_ns    one barrier of the members of a team
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "native.h"

#include "cpu/microkernel.h"
#include "cpu/team.h"

namespace {

using namespace fastrnn;
using namespace fastrnn::FASTRNN_ISA;
using bench::seconds;
using V = Vec<float>;
constexpr int L = V::kLanes;

double tile_gflops(int rows) {
  constexpr int64_t K = 512;
  constexpr int N = kPanelVectors, kCalls = 500;
  struct alignas(64) Line {
    float at[16];
  };
  std::vector<float> a(rows * K, 0.1f), init(N * L), out(rows * N * L);
  std::vector<Line> b(K * N * L / 16);  // as weights are packed; a load across two lines is slow
  TileArgs<float> args{};
  for (int r = 0; r < rows; ++r) {
    args.a[r] = a.data() + r * K;
    args.out[r] = out.data() + r * N * L;
  }
  args.shared_init = init.data(), args.shared = kAllVectors;
  args.b = b.data()->at;
  args.b_step = N * L;
  args.K = K;
  const Tile<float> tile = Tiles<float, float, LhsLayout::kRows>::get(rows, N);
  const double time = seconds([&] {
    for (int call = 0; call < kCalls; ++call) tile(args);
  });
  return 1e-9 * kCalls * 2 * K * rows * N * L / time;
}

template <class Cell> double gates_ns() {
  constexpr int kVectors = 128, kRepeats = 50;
  std::vector<float> x(kVectors * L, 0.3f), out(kVectors * L);
  const double time = seconds([&] {
    const Exact m{};
    for (int repeat = 0; repeat < kRepeats; ++repeat)
      for (int i = 0; i < kVectors; ++i) {
        Pack<V, Cell::kGates> in;
        Pack<V, Cell::kStates> s;
        Pack<V, Cell::kSaved> save;
        const V value = V::load(x.data() + i * L);
        for (int g = 0; g < Cell::kGates; ++g) in[g] = value + V(0.1f * static_cast<float>(g));
        for (int k = 0; k < Cell::kStates; ++k) s[k] = value;
        Cell::forward(m, in, in, s, save);
        s[0].store(out.data() + i * L);
        asm volatile("" : : "r"(out.data()) : "memory");
      }
  });
  return 1e9 * time / kVectors / kRepeats;
}

// Parts that do nothing but wait for each other.
struct Barriers {
  static constexpr int kRounds = 2000;
  std::vector<int> left;

  static Need task(void* self, int part) {
    return --static_cast<Barriers*>(self)->left[static_cast<size_t>(part) * 16] ? Need::kTeam
                                                                                : Need::kEnd;
  }
};

double barrier_ns(int threads) {
  const double time = seconds([&] {
    Barriers barriers{std::vector<int>(static_cast<size_t>(threads) * 16, Barriers::kRounds)};
    run_job({threads, threads, &barriers, Barriers::task});
  });
  return 1e9 * time / Barriers::kRounds;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int threads = std::max(1, std::atoi(argv[1]));
  std::printf("{\"tile_gflops\": {");
  for (int rows = 1; rows <= kMatrixRows; ++rows)
    std::printf("%s\"%d\": %.2f", rows > 1 ? ", " : "", rows, tile_gflops(rows));
  std::printf("}, \"gates_ns\": {\"rnn_tanh\": %.2f, \"lstm\": %.2f, \"gru\": %.2f}, ",
              gates_ns<Rnn<Tanh>>(), gates_ns<Lstm>(), gates_ns<Gru>());
  std::printf("\"barrier_ns\": %.1f}\n", threads > 1 ? barrier_ns(threads) : 0.0);
}
