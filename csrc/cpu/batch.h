// The order of the batch: rows longest first, and how they are shared out.
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>

#include "../core/validate.h"
#include "call_memory.h"
#include "kernel_table.h"

namespace fastrnn {

// Where the rows of each step begin in a packed array, which has those of every k-th alone: of a
// list of lengths, longest first.
struct StepOffsets {
  List<int64_t> entries;  // one more on either side, see Sequence

  StepOffsets(const List<int64_t>& lengths, int64_t k, CallMemory& memory)
      : entries(memory.lists()) {
    const int64_t longest = lengths.empty() ? 0 : lengths[0];
    entries.reserve(static_cast<size_t>(ceil_div(longest, k) + 3));
    entries.assign(2, 0);
    size_t active = lengths.size();
    for (int64_t s = 0; s < longest; s += k) {
      while (lengths[active - 1] <= s) --active;
      entries.push_back(entries.back() + static_cast<int64_t>(active));
    }
    entries.push_back(entries.back());
  }
  const int64_t* data() const { return entries.data() + 1; }
  int64_t rows() const { return entries.back(); }
};

// Where rows that are held run, by row of the batch: for kernels, their steps are the running ones.
struct HeldRows {
  List<int64_t> entries;       // of each row one more than it has steps, on either side
  List<const int64_t*> times;  // [B] into them
  List<int64_t> end;           // [B] the length as it was given
  List<uint8_t> resets;        // [B][T] of the steps that run

  explicit HeldRows(CallMemory& memory)
      : entries(memory.lists()),
        times(memory.lists()),
        end(memory.lists()),
        resets(memory.lists()) {}

  // lengths: as given; becomes the steps that run.
  void lay_out(const StepInputs& inputs, int64_t T, List<int64_t>& lengths) {
    const size_t B = lengths.size();
    end = lengths;
    times.resize(B);
    entries.assign(B * static_cast<size_t>(T + 2), 0);
    if (inputs.reset.data) resets.assign(B * static_cast<size_t>(T), 0);
    const Schedule in_time{inputs, false};
    for (size_t b = 0; b < B; ++b) {
      int64_t* const own = entries.data() + static_cast<int64_t>(b) * (T + 2) + 1;
      uint8_t* const starts =
          resets.empty() ? nullptr : resets.data() + static_cast<int64_t>(b) * T;
      int64_t n = 0;
      HeldRow row{in_time, static_cast<int64_t>(b)};
      for (int64_t t = 0; t < end[b]; ++t) {
        const int64_t from = row.take(t);
        if (starts) starts[n] = from == Schedule::kZero;
        own[n] = t;  // the next step that runs takes the place of one that does not
        n += row.runs(t);
      }
      times[b] = own;
      lengths[b] = n;
    }
  }
};

struct Batch {
  List<int64_t> row, length;  // of each position
  int64_t total = 0;          // steps of all rows
  RowSteps steps{};

  Batch(const Spec& spec, const Problem& p, const Call& call, CallMemory& memory)
      : row(static_cast<size_t>(p.B), memory.lists()),
        length(static_cast<size_t>(p.B), memory.lists()) {
    if (p.packed_x)
      read_packed(spec, p, call.batch_sizes, memory);
    else
      read_lengths(spec, p, call.lengths, length.data());
    std::iota(row.begin(), row.end(), 0);
    steps.inputs = step_inputs(p, call);
    const bool held = steps.inputs.hold.data != nullptr;
    if (held) held_.emplace(memory).lay_out(steps.inputs, p.T, length);
    if (held || call.lengths.given) sort(memory);
    total = std::accumulate(length.begin(), length.end(), int64_t{0});
    if (p.packed) lay_out_packed(spec, p, memory);
    steps.B = p.B;
    steps.row = row.data();
    steps.length = length.data();
    if (!held) return;
    steps.times = held_->times.data();
    steps.end = held_->end.data();
    if (steps.inputs.reset.data) steps.inputs.reset = {held_->resets.data(), 1, p.T};
  }

  int64_t longest() const { return length.empty() ? 0 : length[0]; }
  // Rows that take the last step of all.
  int64_t rows_of_last_step() const { return std::count(length.begin(), length.end(), longest()); }
  // Of packed arrays, for all steps or for those whose states a tape keeps; null: none is packed.
  const int64_t* offsets() const { return offsets_ ? offsets_->data() : nullptr; }
  const int64_t* kept_offsets() const { return kept_offsets_ ? kept_offsets_->data() : offsets(); }

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
  std::optional<HeldRows> held_;  // most calls hold no row, and a step has no time to spare
  std::optional<StepOffsets> offsets_, kept_offsets_;

  // Arrays have been made by lengths that another thread may have written since.
  void lay_out_packed(const Spec& spec, const Problem& p, CallMemory& memory) {
    offsets_.emplace(length, 1, memory);
    if (p.recompute > 1) kept_offsets_.emplace(length, p.recompute, memory);
    if (offsets_->rows() > p.rows || (kept_offsets_ && kept_offsets_->rows() > p.kept_rows))
      throw Error(Fault::kValue, spec.op, "lengths must not change during a call, got others");
  }

  // The lengths of a packed sequence's rows, which are sorted.
  void read_packed(const Spec& spec, const Problem& p, const View& batch_sizes,
                   CallMemory& memory) {
    List<int64_t> sizes(static_cast<size_t>(p.T), memory.lists());
    read_batch_sizes(spec, batch_sizes, p.rows, sizes.data());
    size_t position = length.size();
    for (int64_t t = 0; t < p.T; ++t)
      while (position > static_cast<size_t>(sizes[static_cast<size_t>(t)])) length[--position] = t;
    while (position > 0) length[--position] = p.T;
  }

  void sort(CallMemory& memory) {
    std::stable_sort(row.begin(), row.end(), [&](int64_t a, int64_t b) {
      return length[static_cast<size_t>(a)] > length[static_cast<size_t>(b)];
    });
    const auto by_position = [&](auto& values) {
      const std::decay_t<decltype(values)> of_row(values, memory.lists());
      for (size_t i = 0; i < row.size(); ++i) values[i] = of_row[static_cast<size_t>(row[i])];
    };
    by_position(length);
    if (!held_) return;
    by_position(held_->times);
    by_position(held_->end);
  }
};

}  // namespace fastrnn
