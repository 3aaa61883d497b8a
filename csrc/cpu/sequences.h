// The buffers of a program as the kernels walk them: rows of time and batch, each by a pointer.
#pragma once

#include "../core/program.h"
#include "batch.h"
#include "call_memory.h"
#include "compact.h"
#include "kernel_table.h"

namespace fastrnn {

inline Sequence at_column(Sequence q, int64_t column, int64_t element_bytes) {
  q.base = static_cast<char*>(q.base) + column * element_bytes;
  return q;
}

// Arrays (L * D, B, H), one for each state, in bytes from pass to pass and in elements from row to
// row; those that are not given are null.
struct StateArrays {
  char* base[kMaxStates] = {};
  int64_t pass_bytes[kMaxStates], row[kMaxStates];

  States of_pass(int64_t pass) const {
    States s{};
    for (int k = 0; k < kMaxStates; ++k)
      if (base[k]) s.base[k] = base[k] + pass * pass_bytes[k], s.b_stride[k] = row[k];
    return s;
  }
};

// As StateArrays, of the recurrent masks.
struct MaskArray {
  RecurrentMasks first{};
  int64_t pass_bytes = 0;

  RecurrentMasks of_pass(int64_t pass) const {
    RecurrentMasks masks = first;
    if (masks.base) masks.base = static_cast<const char*>(masks.base) + pass * pass_bytes;
    return masks;
  }
};

// Every buffer of a program. An array of the caller's that kernels cannot walk is walked as a copy.
class Sequences {
 public:
  // scratch: where the buffers that the program needs besides are, and their offsets.
  Sequences(const Spec& spec, const Problem& problem, const Call& call, const Program& program,
            const Batch& batch, char* scratch, const List<int64_t>& offsets, CallMemory& memory)
      : spec_(spec),
        p_(problem),
        batch_(batch),
        buffers_(program.buffers),
        base_(memory.lists()),
        copies_(memory.lists()) {
    base_.reserve(buffers_.size());
    copies_.reserve(buffers_.size() + 4 * kMaxStates + 1);
    for (size_t i = 0; i < buffers_.size(); ++i)
      base_.push_back(buffers_[i].scratch ? dense(scratch + offsets[i], buffers_[i].shape)
                                          : sequence_of(buffers_[i], call));
  }

  StateArrays states(const View* views) {
    StateArrays s;
    for (int k = 0; k < spec_.states; ++k) {
      if (!views[k].given) continue;
      const Strided& a = copies_.emplace_back(spec_, views[k], true);
      s.base[k] = a.data();
      s.pass_bytes[k] = a.stride(0) * views[k].itemsize;
      s.row[k] = p_.batched ? a.stride(1) : 0;
    }
    return s;
  }

  // Of all passes, one after the other.
  MaskArray masks(const Call& call) {
    const View& view = call.recurrent_masks;
    if (!view.given) return {};
    const Strided& a = copies_.emplace_back(spec_, view, true);
    const int own = p_.masks_of_gates;  // dimensions: passes, gates, batch, P
    return {{a.data(), masks_of_row(spec_, p_, call), own ? a.stride(1) : 0,
             p_.batched ? a.stride(1 + own) : 0},
            a.stride(0) * view.itemsize};
  }

  // A buffer whose rows are of time and batch; null where there is none.
  Sequence operator[](int buffer) const {
    return buffer == kNoBuffer ? Sequence{} : base_[static_cast<size_t>(buffer)];
  }
  // The output of a pass in a layer's.
  Sequence output(const Recurrence& r) const {
    return at_column((*this)[r.output], r.direction * spec_.outputs(), spec_.element_bytes);
  }
  // State k of a pass in an array of the tape, which with recompute has checkpoints alone.
  Sequence tape_state(const Recurrence& r, int buffer, int k) const {
    const int64_t part = (k - 1) * spec_.passes() + pass_of(r);
    const int64_t rows = p_.packed ? p_.kept_rows : p_.kept_steps() * p_.B;
    Sequence q = part_of(buffer, part * rows, spec_.units);
    q.steps_per_row = p_.packed ? std::max<int64_t>(1, p_.recompute) : p_.recompute;
    q.offset = batch_.kept_offsets();
    return q;
  }
  Sequence tape_saved(const Recurrence& r) const {
    const int64_t width = spec_.saved * spec_.units;
    Sequence q = part_of(r.saved, pass_of(r) * (p_.packed ? p_.rows : p_.T * p_.B), width);
    q.steps_per_row = p_.packed;
    return q;
  }
  // Scratch for the steps of a window alone, found by scan step. part: which of several arrays.
  Sequence of_window(int buffer, const Recurrence& r, int part = 0) const {
    if (buffer == kNoBuffer) return {};
    const Shape& shape = buffers_[static_cast<size_t>(buffer)].shape;
    const int64_t rows = part ? part * shape[3] * (p_.packed ? 1 : p_.B) : 0;
    Sequence q = part_of(buffer, rows, spec_.units);
    q.steps_per_row = 1, q.first_step = r.begin;
    q.first_row = q.offset ? q.offset[r.begin] : 0;
    return q;
  }

 private:
  const Spec& spec_;
  const Problem& p_;
  const Batch& batch_;
  const std::pmr::vector<Buffer>& buffers_;
  List<Sequence> base_;
  List<Strided> copies_;

  int64_t pass_of(const Recurrence& r) const { return spec_.pass(r.layer, r.direction); }

  // From so many rows of this width on.
  Sequence part_of(int buffer, int64_t rows, int64_t width) const {
    const bool sums = buffers_[static_cast<size_t>(buffer)].accumulator;
    const int64_t bytes = sums ? spec_.accumulator_bytes() : spec_.element_bytes;
    return at_column((*this)[buffer], rows * width, bytes);
  }

  // T x B rows, time first, without gaps; or those that run.
  Sequence dense(char* base, const Shape& shape) const {
    return dense(base, shape[shape.size() - 1]);
  }
  Sequence dense(char* base, int64_t width) const {
    if (p_.packed) return packed(base, width);
    return {base, p_.B * width, width, 0, 0, 0, nullptr};
  }
  Sequence packed(char* base, int64_t row_stride) const {
    return {base, row_stride, 0, 0, 0, 0, batch_.offsets()};
  }

  Sequence sequence_of(const Buffer& buffer, const Call& call) {
    const View& view = items_of(rule_of(buffer.role), spec_, call).first[0];
    switch (buffer.role) {
      case Role::kInner: {
        const int64_t width = spec_.layer_outputs();
        const int64_t rows = p_.packed ? p_.rows : p_.T * p_.B;
        return dense(view.data + buffer.item * rows * width * view.itemsize, width);
      }
      case Role::kStates: return dense(view.data, spec_.units);
      case Role::kSaved: return dense(view.data, spec_.saved * spec_.units);
      case Role::kMask: return strided(call.masks[static_cast<size_t>(buffer.item)]);
      default: return strided(view);
    }
  }
  Sequence strided(const View& view) {
    const Strided& a = copies_.emplace_back(spec_, view, true);
    if (p_.packed_x) return packed(a.data(), a.stride(0));
    const int64_t b_stride = p_.batched ? a.stride(p_.batch_axis()) : 0;
    return {a.data(), a.stride(p_.time_axis()), b_stride, 0, 0, 0, nullptr};
  }
};

}  // namespace fastrnn
