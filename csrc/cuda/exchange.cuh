// How the blocks of a group give each other what the next product multiplies: rows of h (forward)
// or of the gates' gradients (backward), one exchange for each step that has a product.
//
// Each unit is published by the thread that has made it, as the next product takes it: zero where
// the row does not run then. So no reader knows a rule of time. An exchange has one of two slots in
// turns: a block publishes into a slot again only after it has all of the exchange between, and so
// after every block has read the slot.
//
//   kCounter  rows in global memory; a barrier of the group says that they are there. Any number
//             of rows, and of blocks that are resident together.
//   kFlags    likewise, in words that hold a value and the number of its exchange, which readers
//             poll: without a fence, a counter and two of the four barriers of the block, for twice
//             the bytes in float32 and four times those in 16 bits.
//   kCluster  rows in the shared memory of every block of a cluster, where the product finds them;
//             each block counts the others' arrivals. It waits for those of every exchange, so it
//             does not end while others may still write to its memory. A group of one block needs
//             its own barrier alone. One tile of rows.
#pragma once

#include "copy.cuh"

namespace fastrnn {
namespace gpu {

static_assert(sizeof(Flagged) == kFlaggedBytes, "the host gives them room");

// What of a tile a product takes next: n values from `begin` on of `rows` rows, of which `count`,
// from `first` of the group on, are given.
struct StagedPart {
  int first, count, rows, begin, n;
};

template <class S> struct Exchange {
  const Grid& grid;
  int64_t H;
  int group;
  GroupBarrier barrier{grid.counters + group * kCounterStride, unsigned(grid.blocks_per_group)};
  unsigned number = 0;  // exchanges that this block has come to

  FASTRNN_DEVICE bool is_alone() const { return grid.blocks_per_group == 1; }
  // Of kCluster: are there others? (Below compute capability 9.0 there never are.)
  FASTRNN_DEVICE bool has_others() const { return kHasClusters && !is_alone(); }
  // Where rows are staged; of a cluster both slots.
  FASTRNN_DEVICE S* shared() const {
    return reinterpret_cast<S*>(shared_memory() + grid.at.staged);
  }
  FASTRNN_DEVICE Arrivals* arrivals() const {
    return reinterpret_cast<Arrivals*>(shared_memory() + grid.at.arrivals);
  }

  // Before the first exchange, by all threads.
  FASTRNN_DEVICE void set_up() {
    if (grid.way != ExchangeWay::kCluster) return;
    // Nobody publishes what H is padded with.
    for (int i = thread(); i < 2 * grid.tile_rows * grid.staged_stride; i += threads())
      shared()[i] = narrow<S>(Acc<S>(0));
    if (!has_others()) return;
    if (thread() == 0) init_arrivals(arrivals(), grid.blocks_per_group);
    sync_cluster("exchange: the cluster is set up");
  }

  // Row r of the group, value u of a segment, for the exchange that comes next.
  FASTRNN_DEVICE void publish(int r, int segment, int64_t u, S value) {
    const int64_t k = int64_t(segment) * grid.padded + u;
    if (grid.way == ExchangeWay::kCounter) {
      exchange_store(row<S>(number, r) + k, value);
    } else if (grid.way == ExchangeWay::kFlags) {
      for (int64_t i = 0; i == 0 || (u + 1 == H && u + i < grid.padded); ++i)
        store_flagged(row<Flagged>(number, r) + k + i,
                      {bits_of(i ? narrow<S>(Acc<S>(0)) : value), number + 1},
                      "exchange: a value is there");
    } else {
      S* const own = slot(number) + r * grid.staged_stride + k;
      if (!has_others())
        *own = value;
      else
        for (int rank = 0; rank < grid.blocks_per_group; ++rank) store_remote(own, value, rank);
    }
  }

  // By all threads, once the block has published all of an exchange.
  FASTRNN_DEVICE void arrive() {
    switch (grid.way) {
      case ExchangeWay::kCounter:
        if (is_alone())
          sync_block("exchange: the block's rows are in memory");
        else
          barrier.arrive();
        break;
      case ExchangeWay::kFlags: break;  // each value has arrived by itself
      case ExchangeWay::kCluster:
        sync_block("exchange: the block's rows are given");
        if (has_others() && thread() < grid.blocks_per_group)
          arrive_at(arrivals(), thread(), "exchange: a block has given its rows");
    }
    ++number;
  }
  // By all threads, before the rows of the exchange that they arrived at last are staged.
  template <class GiveUp> FASTRNN_DEVICE void wait(GiveUp give_up) {
    if (is_alone()) return;
    if (grid.way == ExchangeWay::kCounter) barrier.wait(give_up);
    if (kHasClusters && grid.way == ExchangeWay::kCluster)
      poll([&] { return have_arrived(arrivals(), (number - 1) % 2, "exchange: rows are here"); },
           give_up);
  }

  // Where the rows of the exchange that was arrived at last are staged.
  FASTRNN_DEVICE S* staged() const {
    return grid.way == ExchangeWay::kCluster ? slot(number - 1) : shared();
  }
  // Brings them there.
  template <class GiveUp> FASTRNN_DEVICE void stage(const StagedPart& part, GiveUp give_up) const {
    switch (grid.way) {
      case ExchangeWay::kCounter: stage_rows(part); break;
      case ExchangeWay::kFlags: stage_flagged(part, give_up); break;
      case ExchangeWay::kCluster: break;
    }
  }
  // Rows that no exchange brings: given[r] points to the H values of row r, null for zeros.
  FASTRNN_DEVICE void stage_given(const StagedPart& part, const S* const* given) const {
    copy_to_shared(
        staged(), grid.staged_stride, part.rows, {H, part.begin, part.n, false},
        [&](int r) -> const S* { return r < part.count ? given[part.first + r] : nullptr; });
  }

 private:
  // Values of a row in global memory, of one slot.
  template <class V> FASTRNN_DEVICE V* row(unsigned exchange, int r) const {
    const int64_t groups = blocks() / grid.blocks_per_group, of_slot = exchange % 2;
    return static_cast<V*>(grid.exchanged) + ((of_slot * groups + group) * grid.rows + r) * grid.k;
  }
  FASTRNN_DEVICE S* slot(unsigned exchange) const {
    return shared() + exchange % 2 * grid.tile_rows * grid.staged_stride;
  }

  FASTRNN_DEVICE void stage_rows(const StagedPart& part) const {
    using Piece = Quad<float>;  // 16 bytes, whatever they are
    constexpr int kOfPiece = sizeof(Piece) / sizeof(S);
    const S* const rows = row<S>(number - 1, part.first) + part.begin;
    copy_in_flight<kLoadsInFlight>(
        part.rows, part.n / kOfPiece,
        [&](int r, int piece) {
          if (r >= part.count) return Piece{};
          const S* from = rows + int64_t(r) * grid.k + piece * kOfPiece;
          return exchange_load(reinterpret_cast<const Piece*>(from));
        },
        [&](int r, int piece, const Piece& values) {
          S* to = shared() + r * grid.staged_stride + piece * kOfPiece;
          *reinterpret_cast<Piece*>(to) = values;
        });
  }

  // Several words of a thread are polled at once, until all are there.
  template <class GiveUp>
  FASTRNN_DEVICE void stage_flagged(const StagedPart& part, GiveUp give_up) const {
    constexpr int N = kLoadsInFlight;
    const Flagged* const rows = row<Flagged>(number - 1, part.first) + part.begin;
    const FlaggedPair there{{{0, number}, {0, number}}};
    Cells cell(part.n / 2, thread(), threads());
    FASTRNN_ROLLED
    while (cell.row < part.rows) {
      FlaggedPair found[N];
      const auto are_there = [&] {
        Cells from = cell;
        FASTRNN_UNROLL
        for (int j = 0; j < N; ++j, from.next()) {
          const Flagged* word = rows + int64_t(from.row) * grid.k + 2 * from.column;
          found[j] = from.row < part.count
                         ? load_flagged(reinterpret_cast<const FlaggedPair*>(word),
                                        "exchange: values are polled")
                         : there;
        }
        bool yes = true;
        FASTRNN_UNROLL
        for (int j = 0; j < N; ++j)
          yes = yes && found[j].v[0].tag == number && found[j].v[1].tag == number;
        return yes;
      };
      poll(are_there, give_up);
      FASTRNN_UNROLL
      for (int j = 0; j < N; ++j, cell.next()) {
        if (cell.row >= part.rows) continue;
        S* to = shared() + cell.row * grid.staged_stride + 2 * cell.column;
        to[0] = of_bits<S>(found[j].v[0].bits), to[1] = of_bits<S>(found[j].v[1].bits);
      }
    }
  }
};

}  // namespace gpu
}  // namespace fastrnn
