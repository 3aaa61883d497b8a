// How the grid mode shares a pass among blocks and lays out their shared memory, as the host has
// decided (grid_plan.cpp) and kernels find it: every number is one that a kernel need not work out.
#pragma once

#include <stdint.h>

#include "../core/shared.h"

namespace fastrnn {
namespace gpu {

constexpr int kLanes = 32, kMaxThreads = 256;
// A warp's part of the recurrent product: so many rows, and columns. Rows beyond a tile come in
// turns. Without tensor cores tiles are compiled for 1, 4 and 8 rows, with them for 8, 16 and 32.
constexpr int kTileRows = 8, kMaxTensorRows = 32;
constexpr int kTileColumns = 4, kWideColumns = 8, kTensorColumns = 16;
FASTRNN_HOST_DEVICE int rows_of_tile(int rows) { return rows <= 1 ? 1 : rows <= 4 ? 4 : kTileRows; }
// Of a row, what tensor cores multiply at once; rows are padded with zeros to whole ones. And what
// is added to the stride between rows in shared memory, so that eight of them lie in other banks.
constexpr int kStepBytes = 32, kSkewBytes = 16;
// A word that says itself whether it is there (gpu.h).
constexpr int kFlaggedBytes = 8;
// Loads of a thread that are on their way at once.
constexpr int kLoadsInFlight = 8;
constexpr int kCounterStride = 32;  // of the groups' counters

// How the blocks of a group give each other the rows of the next product (exchange.cuh).
enum class ExchangeWay : int {
  kCounter,  // through global memory, which they may read when a counter says so
  kFlags,    // through words of global memory that say themselves whether they are there
  kCluster   // through the shared memory of a cluster, or of the one block that is the group
};

// Where the parts of a block's shared memory begin, in bytes. S: the storage type.
struct GridLayout {
  int weights;    // [columns][resident_stride] of S
  int streamed;   // [columns][staged_stride] of S, where not all weights are resident
  int staged;     // [slots of the exchange][tile_rows][staged_stride] of S
  int sums;       // [slots][tile_rows][columns] floats
  int states;     // [carried][rows][units] floats
  int constants;  // [units], what a unit keeps for the whole pass
  int lengths;    // [rows] ints
  int given;      // [rows] pointers to what the first step multiplies
  int arrivals;   // of a cluster
  int64_t bytes;  // of all
};

// How blocks share the work: D directions times `replicas` groups; a group takes some rows of the
// batch and shares out the units among its blocks. Of all this only `tensor` and the chunk decide
// bits of a result, and they depend on the dtype, the card and the user's choice alone.
struct Grid {
  ExchangeWay way;
  int replicas, blocks_per_group;
  int units;      // of a block, at most
  int rows;       // of a group, at most
  int tile_rows;  // that are multiplied at once
  int tensor;     // by tensor cores? In float32: as TF32

  // The contracting dimension k of the recurrent product: vectors of H values, forward one and
  // backward one for each gate, each padded with zeros.
  int padded, k;
  int chunk;     // k that have a partial sum of their own
  int staged;    // k that are staged at once: all, or whole chunks
  int resident;  // k whose weights stay in shared memory: all, or those of whole stagings
  int slots;     // chunks whose sums are apart: those of a staging, or 1
  int staged_stride, resident_stride;  // between rows in shared memory

  GridLayout at;
  unsigned* counters;  // [D * replicas], kCounterStride apart; 0 at the start
  void* exchanged;     // but for kCluster: two slots of the rows of all groups; 0 at the start
  const char* name;    // of the kernel, in the host's memory: not to be read by it
};

}  // namespace gpu
}  // namespace fastrnn
