// That the emulator finds what it is there to find: kernels with one mistake each.
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(FASTRNN_ASAN)
#include <sanitizer/asan_interface.h>
#endif

#include "cuda/device.h"
#include "cuda/gpu.h"
#include "device_emulated.h"
#include "emulator.h"

// ThreadSanitizer counts races here, each place once, and leaves it to this program to fail. (What
// it calls it must not watch.)
static int races = 0;
#if defined(FASTRNN_TSAN)
extern "C" {
__attribute__((visibility("default"), no_sanitize_thread)) void __tsan_on_report(void*) { ++races; }
__attribute__((visibility("default"))) const char* __tsan_default_options() {
  return "exitcode=0:suppress_equal_addresses=0";
}
}
#endif

namespace {

using namespace fastrnn::emulation;
namespace gpu = fastrnn::gpu;

int failures = 0;
std::atomic<int> wrong{0};  // values that a kernel has found so

void check(bool right) { wrong += !right; }

constexpr int kBlocks = 4, kThreads = 64, kSharedBytes = 1024, kClusterBlocks = 2;

// Global memory, zeros at the start of each run.
struct Memory {
  gpu::FlaggedPair pairs[2][kBlocks];
  float plain[kBlocks];
} memory;

// What is found wrong in a kernel's run.
template <class K> std::string report(Schedule schedule, K kernel) {
  use_schedule(schedule, 7);
  wrong = 0;
  races = 0;
  memory = {};
  std::string error;
  try {
    launch(kernel, kBlocks, kThreads, kSharedBytes, kClusterBlocks);
  } catch (const std::runtime_error& e) {
    error = e.what();
  }
  if (races) return "a race";
  if (!error.empty()) return error;
  return wrong ? std::to_string(wrong) + " values are wrong" : "";
}

void expect_report(const char* what, const std::string& wanted, const std::string& got) {
  if (got.rfind(wanted, 0) == 0 && got.empty() == wanted.empty()) return;
  std::printf("FAILED: %s: wanted '%s', got '%s'\n", what, wanted.c_str(), got.c_str());
  ++failures;
}

// ThreadSanitizer takes most of a megabyte for each fiber, so it sees one schedule.
#if defined(FASTRNN_TSAN)
constexpr Schedule kSchedules[] = {Schedule::kRandom};
#else
constexpr Schedule kSchedules[] = {Schedule::kForward, Schedule::kReverse, Schedule::kRandom};
#endif

// Runs a kernel in every schedule; the report must begin with `wanted`, "" being none.
template <class K> void expect(const char* what, const std::string& wanted, K kernel) {
  for (const Schedule schedule : kSchedules) expect_report(what, wanted, report(schedule, kernel));
}

// That ThreadSanitizer, where it runs, finds a race. (It tells of a place once.)
template <class K> void expect_race(const char* what, [[maybe_unused]] K kernel) {
#if defined(FASTRNN_TSAN)
  expect_report(what, "a race", report(Schedule::kRandom, kernel));
#else
  (void)what;
#endif
}

// That there is a race without this primitive, and none with it.
template <class K> void expect_race_without(const char* primitive, K kernel) {
  expect(primitive, "", kernel);
  fastrnn::emulation::remove(primitive);
  expect_race(primitive, kernel);
  fastrnn::emulation::remove("");
}

// What AddressSanitizer knows of a launch's frames must go with the launch: the next one with more
// threads gives the stacks back to the system, and whoever has that memory then would be told of
// overflows that are none.
void expect_clean_stacks() {
#if defined(FASTRNN_ASAN)
  constexpr size_t kBytes = 4096;
  char* frame = nullptr;
  use_schedule(Schedule::kForward, 7);
  launch(
      [&] {
        char local[64];
        if (this_thread().block == 0 && this_thread().thread == 0) frame = local;
        sync_block("all");
      },
      2, 64, 16);
  if (__asan_region_is_poisoned(frame - kBytes, 2 * kBytes) == nullptr) return;
  std::printf("FAILED: frames of a launch are kept\n");
  ++failures;
#endif
}

// Reads matrices whose bytes are their places.
template <int kMatrices> void read_matrices(const char* barrier) {
  char* shared = gpu::shared_memory();
  for (int i = gpu::thread(); i < kSharedBytes; i += gpu::threads()) shared[i] = char(i % 251);
  gpu::sync_block(barrier);
  const int lane = gpu::thread() % 32;
  // In an order of rows that is not theirs in memory; lanes that do not count point nowhere.
  const int row_bytes = 16, count = 8 * kMatrices;
  const auto place = [&](int row) { return row_bytes * ((row * 5 + 3) % count); };
  uint32_t got[kMatrices];
  gpu::load_matrices(got, lane < count ? shared + place(lane) : nullptr, "matrices");
  for (int i = 0; i < kMatrices; ++i)
    for (int byte = 0; byte < 4; ++byte) {
      const int at = place(8 * i + lane / 4) + 4 * (lane % 4) + byte;
      check((got[i] >> 8 * byte & 0xff) == uint32_t(at % 251));
    }
}

void test_matrices() {
  expect_race_without("four written", [] { read_matrices<4>("four written"); });
  expect_race_without("two written", [] { read_matrices<2>("two written"); });
  const auto from = [](int bytes) {
    uint32_t got[4];
    gpu::load_matrices(got, gpu::shared_memory() + bytes, "here");
  };
  const std::string rule = "rows must be 16 aligned bytes of shared memory, got others at 'here'";
  expect("a row that is not aligned", rule, [&] { from(8); });
  expect("a row outside of shared memory", rule, [&] { from(kSharedBytes - 8); });
  expect("lanes of a warp at two places", "threads of one block wait at", [] {
    uint32_t got[4];
    gpu::load_matrices(got, gpu::shared_memory(), gpu::thread() < 16 ? "here" : "there");
  });
  expect("a lane that reads no matrix", "no thread can go on; they wait at: here, there", [] {
    uint32_t got[4];
    if (gpu::thread() == 5) sync_block("there");
    gpu::load_matrices(got, gpu::shared_memory(), "here");
    sync_block("there");
  });
}

// How each type is stored, and the value that a word of a fragment then has.
uint32_t store(gpu::Half, float x) { return gpu::half_from_float(x).bits; }
uint32_t store(gpu::Bfloat16, float x) { return gpu::bfloat16_from_float(x).bits; }
// With bits that tensor cores ignore.
uint32_t store(gpu::Tf32, float x) { return gpu::bits_of(gpu::round_to_tf32(x)) | 0x1555; }

// The fragments as the PTX ISA numbers their elements: of a lane's i-th of A, its row and k; of B,
// k and its column.
struct Place {
  int line, k;
};
Place place_in_a(gpu::Tf32, int lane, int i) {
  return {lane / 4 + i % 2 * 8, lane % 4 + i / 2 * 4};
}
Place place_in_b(gpu::Tf32, int lane, int i) { return {lane / 4, lane % 4 + i * 4}; }
template <class Tag> Place place_in_a(Tag, int lane, int i) {
  const bool lower = i % 4 >= 2, second = i >= 4;
  return {lane / 4 + (lower ? 8 : 0), lane % 4 * 2 + i % 2 + (second ? 8 : 0)};
}
template <class Tag> Place place_in_b(Tag, int lane, int i) {
  return {lane / 4, lane % 4 * 2 + i % 2 + (i >= 2 ? 8 : 0)};
}

// Matrices of 16 rows, of A, and 8 columns, of B, whose values have no more bits than any type
// here, so that a plain product of them is that of what is stored; C's are such that sums round.
struct Matrices {
  float a[16][16], b[16][8], c[16][8];
  explicit Matrices(int seed) {
    uint32_t state = uint32_t(seed);
    const auto next = [&] {
      state = state * 1664525u + 1013904223u;
      return int(state >> 24) - 128;
    };
    for (auto& row : a)
      for (float& x : row) x = float(next()) / 64;
    for (auto& row : b)
      for (float& x : row) x = float(next()) / 4096;
    for (auto& row : c)
      for (float& x : row) x = float(next()) / 3;
  }
};

template <class Tag> void multiply_matrices(int K) {
  const Matrices m(gpu::thread() / 32 + 2 * gpu::block() + 1);
  const int lane = gpu::thread() % 32, in_word = K / 8, bits = 32 / in_word;
  uint32_t a[4] = {}, b[2] = {};
  for (int i = 0; i < 4 * in_word; ++i) {
    const Place at = place_in_a(Tag{}, lane, i);
    a[i / in_word] |= store(Tag{}, m.a[at.line][at.k]) << i % in_word * bits;
  }
  for (int i = 0; i < 2 * in_word; ++i) {
    const Place at = place_in_b(Tag{}, lane, i);
    b[i / in_word] |= store(Tag{}, m.b[at.k][at.line]) << i % in_word * bits;
  }
  float d[4], wanted[4];
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
    d[i] = wanted[i] = m.c[row][column];
    for (int k = 0; k < K; ++k) wanted[i] = std::fma(m.a[row][k], m.b[k][column], wanted[i]);
  }
  gpu::multiply_add(Tag{}, d, a, b, "product");
  for (int i = 0; i < 4; ++i) check(d[i] == wanted[i]);
}

void test_tensor_cores() {
  expect("a product in float16", "", [] { multiply_matrices<gpu::Half>(16); });
  expect("a product in bfloat16", "", [] { multiply_matrices<gpu::Bfloat16>(16); });
  expect("a product in TF32", "", [] { multiply_matrices<gpu::Tf32>(8); });
  expect("rounding to TF32", "", [] {
    const float last = 0x1p-10f;
    check(gpu::round_to_tf32(1 + last) == 1 + last);
    check(gpu::round_to_tf32(1 + last / 2) == 1 + last);
    check(gpu::round_to_tf32(-1 - last / 2) == -1 - last);
    check(gpu::round_to_tf32(1 + last * 1.499f) == 1 + last);
    check(gpu::round_to_tf32(1 + last * 0.499f) == 1);
    check(std::isinf(gpu::round_to_tf32(INFINITY)) && std::isnan(gpu::round_to_tf32(NAN)));
  });
  expect("a lane without a product", "no thread can go on; they wait at: here, there", [] {
    float d[4] = {};
    const uint32_t a[4] = {}, b[2] = {};
    if (gpu::thread() == 5) sync_block("there");
    gpu::multiply_add(gpu::Half{}, d, a, b, "here");
    sync_block("there");
  });
}

// Two threads of each block tell their numbers to those of the other blocks, in two places by
// turns, and wait for theirs; `load` polls for that of this thread in a block.
template <class F> void exchange_flagged(const char* store, F load) {
  const int me = gpu::thread();
  if (me >= 2) return;
  for (uint32_t step = 1; step <= 5; ++step) {
    auto& now = memory.pairs[step % 2];
    const uint32_t number = step * 1000 + uint32_t(me);
    gpu::store_flagged(&now[gpu::block()].v[me], {number, step}, store);
    for (const gpu::FlaggedPair& pair : now) {
      gpu::Flagged got;
      while ((got = load(pair, me)).tag != step) gpu::pause();
      check(got.bits == number);
    }
  }
}

void test_flagged_words() {
  const auto one_by_one = [] {
    exchange_flagged("store", [](const gpu::FlaggedPair& pair, int i) {
      return gpu::load_flagged(&pair.v[i], "load one");
    });
  };
  expect_race_without("load one", one_by_one);
  expect_race_without("load a pair", [] {
    exchange_flagged("store", [](const gpu::FlaggedPair& pair, int i) {
      return gpu::load_flagged(&pair, "load a pair").v[i];
    });
  });
  fastrnn::emulation::remove("store");
  expect("a store that is taken away", "no thread can go on; they wait at: load one, the end",
         one_by_one);
  fastrnn::emulation::remove("");
  expect("a store that is lost", "no thread can go on; they wait at: load one, the end", [&] {
    if (gpu::block() == 1 && gpu::thread() == 1) lose_arrival(0);
    one_by_one();
  });
  expect_race("a flagged word that is to order other memory", [] {
    gpu::Flagged* word = &memory.pairs[0][0].v[0];
    if (gpu::thread() != 0) return;
    if (gpu::block() == 0) {
      memory.plain[0] = 1;
      gpu::store_flagged(word, {0, 1}, "store");
    } else {
      while (gpu::load_flagged(word, "load one").tag != 1) gpu::pause();
      check(memory.plain[0] == 1);
    }
  });
}

struct OfBlock {
  gpu::Arrivals arrivals;
  float floats[2][2 * kClusterBlocks];
  gpu::Half halves[2][2 * kClusterBlocks];
};
OfBlock& of_block() { return *reinterpret_cast<OfBlock*>(gpu::shared_memory()); }

void test_clusters() {
  expect("ranks", "", [] {
    check(gpu::cluster_blocks() == kClusterBlocks);
    check(gpu::cluster_rank() == gpu::block() % kClusterBlocks);
  });
  expect_race_without("cluster: written", [] {
    const int rank = gpu::cluster_rank(), other = kClusterBlocks - 1 - rank;
    float* place = &of_block().floats[0][gpu::thread() % 4];
    gpu::sync_cluster("cluster: begun");
    if (gpu::thread() < 4) gpu::store_remote(place, float(rank), other);
    gpu::sync_cluster("cluster: written");
    if (gpu::thread() < 4) check(*place == float(other));
  });
  expect("threads of a cluster at two places", "threads of one cluster wait at",
         [] { gpu::sync_cluster(gpu::cluster_rank() == 0 ? "here" : "there"); });
  expect("a block that does not come", "no thread can go on; they wait at: here, there", [] {
    if (gpu::cluster_rank() == 0) gpu::sync_cluster("here");
    if (gpu::thread() < 32) sync_block("there");
    gpu::sync_cluster("here");
  });
  expect("a thread that leaves its cluster", "a thread has ended while others of its cluster", [] {
    gpu::sync_cluster("begun");
    if (gpu::cluster_rank() == 0 && gpu::thread() == 5) {
      gpu::pause();
      return;
    }
    gpu::sync_cluster("done");
  });

  const std::string rule = "a block must be running when another reaches into it";
  expect("a block that has not begun", rule, [] {
    gpu::store_remote(&of_block().floats[0][0], 0.0f, 1 - gpu::cluster_rank());
    gpu::sync_cluster("none has ended");
  });
  expect("a block that has ended", rule, [] {
    gpu::sync_cluster("begun");
    if (gpu::cluster_rank() == 1) return;
    gpu::pause();
    gpu::store_remote(&of_block().floats[0][0], 0.0f, 1);
  });
  expect("a place outside of shared memory", "a place must be in the cluster's shared memory",
         [] { gpu::store_remote(&memory.plain[0], 0.0f, gpu::cluster_rank()); });
  expect("a rank outside of the cluster", "a place must be in the cluster's shared memory",
         [] { gpu::store_remote(&of_block().floats[0][0], 0.0f, kClusterBlocks); });

  std::string got;
  try {
    launch([] {}, 3, 32, 0, 2);
  } catch (const std::runtime_error& e) {
    got = e.what();
  }
  expect_report("blocks that are no clusters", "blocks must make whole clusters of 2, got 3", got);
}

// Two threads of each block send values to all blocks of the cluster, in two places by turns, and
// wait for theirs. (Copies, since ThreadSanitizer tells of a place once.)
template <int kCopy> void exchange_remote() {
  OfBlock& own = of_block();
  const int values = 2 * kClusterBlocks, me = 2 * gpu::cluster_rank() + gpu::thread();
  gpu::sync_cluster("cluster: begun");
  if (gpu::thread() == 0) {
    gpu::init_arrivals(&own.arrivals, values);
    check(gpu::have_arrived(&own.arrivals, 1, "have arrived"));
    check(!gpu::have_arrived(&own.arrivals, 0, "have arrived"));
  }
  gpu::sync_cluster("cluster: arrivals");
  for (int phase = 0; phase < 5 && gpu::thread() < 2; ++phase) {
    const int side = phase % 2;
    for (int rank = 0; rank < kClusterBlocks; ++rank) {
      gpu::store_remote(&own.floats[side][me], float(10 * phase + me), rank);
      gpu::store_remote(&own.halves[side][me], gpu::Half{uint16_t(20 * phase + me)}, rank);
      gpu::arrive_at(&own.arrivals, rank, "arrive at");
    }
    while (!gpu::have_arrived(&own.arrivals, unsigned(side), "have arrived")) gpu::pause();
    for (int i = 0; i < values; ++i) {
      check(own.floats[side][i] == float(10 * phase + i));
      check(own.halves[side][i].bits == 20 * phase + i);
    }
  }
  gpu::sync_cluster("cluster: done");
}

void test_arrivals() {
  expect_race_without("cluster: arrivals", exchange_remote<1>);
  expect_race_without("arrive at", exchange_remote<2>);
  expect_race_without("have arrived", exchange_remote<3>);
  expect("an arrival in a cluster that is lost",
         "no thread can go on; they wait at: cluster: done, have arrived, the end", [] {
           gpu::sync_cluster("cluster: begun");
           if (gpu::block() == 1 && gpu::thread() == 1) lose_arrival(3);
           exchange_remote<0>();
         });
}

void put_rank(int* to) {
  if (gpu::thread() == 0) to[gpu::block()] = 10 * gpu::cluster_blocks() + gpu::cluster_rank();
}

// What the host asks of clusters, and how it launches them.
void test_device() {
  const auto* kernel = reinterpret_cast<const void*>(put_rank);
  const auto at_once = [&](int cluster) {
    return gpu::clusters_at_once("test", kernel, 32, 0, cluster);
  };
  wrong = 0;
  check(gpu::device(0).max_cluster == 16 && gpu::architecture_of("test", kernel) == 90);
  use_device(14, 227 << 10, true, 1.7, 8, 80);
  check(gpu::device(0).max_cluster == 8 && gpu::architecture_of("test", kernel) == 80);
  check(at_once(4) == 3 && at_once(8) == 1 && at_once(16) == 0);

  const auto put_ranks = [](int cluster) {
    std::array<int, 4> ranks{};
    gpu::Launch how{int(ranks.size()), 32};
    how.cluster = cluster;
    gpu::launch("test", how, put_rank, ranks.data());
    gpu::synchronize("test", nullptr);
    return ranks;
  };
  check(put_ranks(0) == std::array<int, 4>{10, 10, 10, 10});
  check(put_ranks(1) == std::array<int, 4>{10, 10, 10, 10});
  check(put_ranks(2) == std::array<int, 4>{20, 21, 20, 21});
  expect_report("clusters by the host", "", wrong ? "some values are wrong" : "");
}

}  // namespace

int main() {
  unsigned counter = 0;
  expect("barriers", "", [&] {
    sync_block("one");
    sync_block("two");
  });
  expect("a barrier of blocks", "", [&] {
    arrive(&counter, "arrive");
    while (load_acquire(&counter, "load_acquire") % (kBlocks * kThreads) != 0) pause();
  });
  expect("a thread that leaves", "a thread has ended while others of its block wait at", [&] {
    if (this_thread().thread != 5) sync_block("all");
  });
  expect("two barriers", "threads of one block wait at",
         [&] { sync_block(this_thread().thread < 32 ? "here" : "there"); });
  expect("a counter that nobody raises", "no thread can go on; they wait at: never", [&] {
    unsigned zero = 0;
    while (load_acquire(&zero, "never") == 0) pause();
  });
  expect("a thread that ends the launch", "a thread has trapped", [&] {
    if (this_thread().thread == 5) trap();
    sync_block("all");
  });
  expect("an arrival that is lost", "no thread can go on; they wait at: load_acquire, the end",
         [&] {
           if (this_thread().thread != 5) return;
           lose_arrival(1);
           unsigned own = 0;
           arrive(&own, "arrive");
           arrive(&own, "arrive");
           while (load_acquire(&own, "load_acquire") < 2) pause();
         });
  expect("shared memory that nobody wrote", "", [&] {
    float value;
    std::memcpy(&value, this_thread().shared, sizeof value);
    check(value != value);
  });
  expect("shuffles", "", [&] {
    const int lane = this_thread().thread % 32;
    for (int mask = 16; mask > 0; mask /= 2)
      check(gpu::shuffle_xor(float(lane - mask), mask, "shuffle") == float((lane ^ mask) - mask));
  });
  test_matrices();
  test_tensor_cores();
  test_flagged_words();
  test_clusters();
  test_arrivals();
  test_device();
  expect_clean_stacks();
  return failures ? 1 : 0;
}
