// The order of the batch: rows longest first, and how they are shared out.
#pragma once

#include <algorithm>
#include <numeric>

#include "../core/validate.h"
#include "call_memory.h"
#include "kernel_table.h"

namespace fastrnn {

struct Batch {
  List<int64_t> row, length;  // of each position
  int64_t total = 0;          // steps of all rows
  RowSteps steps{};

  Batch(const Spec& spec, const Problem& p, const Call& call, CallMemory& memory)
      : row(static_cast<size_t>(p.B), memory.lists()),
        length(static_cast<size_t>(p.B), memory.lists()) {
    read_lengths(spec, p, call.lengths, length.data());
    std::iota(row.begin(), row.end(), 0);
    if (call.lengths.given) sort(memory);
    total = std::accumulate(length.begin(), length.end(), int64_t{0});
    steps.B = p.B;
    steps.row = row.data();
    steps.length = length.data();
    steps.inputs = step_inputs(p, call);
  }

  int64_t longest() const { return length.empty() ? 0 : length[0]; }

  // The first position of a group, so that groups have steps alike: few long rows or many short
  // ones.
  int64_t begin_of(int group, int groups) const {
    if (group == groups) return static_cast<int64_t>(length.size());
    if (total == 0) return static_cast<int64_t>(length.size()) * group / groups;
    int64_t steps = 0, position = 0;
    while (position < static_cast<int64_t>(length.size()) && steps * groups < total * group)
      steps += length[static_cast<size_t>(position++)];
    return position;
  }
  // Rows of the largest group.
  int64_t max_rows(int groups) const {
    int64_t rows = 0;
    for (int g = 0; g < groups; ++g)
      rows = std::max(rows, begin_of(g + 1, groups) - begin_of(g, groups));
    return rows;
  }

 private:
  void sort(CallMemory& memory) {
    const List<int64_t> lengths(length, memory.lists());
    std::stable_sort(row.begin(), row.end(), [&](int64_t a, int64_t b) {
      return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
    });
    for (size_t i = 0; i < row.size(); ++i) length[i] = lengths[static_cast<size_t>(row[i])];
  }
};

}  // namespace fastrnn
