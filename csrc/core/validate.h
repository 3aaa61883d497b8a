// Every rule about sizes, shapes, dtypes and buffers. All of a call is checked before anything is
// written; what passes here cannot make a kernel read or write outside its arrays.
#pragma once

#include <string>
#include <vector>

#include "limits.h"
#include "problem.h"

namespace fastrnn {

struct Named {
  std::string name;
  const View* view;
};

// Sizes of a layer: positive, and small enough that no array of it has more bytes than int64
// counts.
void check_spec(const Spec& spec);

// C order without gaps?
bool is_contiguous(const View& view);

// As check_values; each row of the last dimension contiguous and aligned: what is found by a
// pointer.
void check_rows(const Spec& spec, const std::string& name, const View& view, const Shape& shape);

// What the parameters say of a layer's sizes and dtype, in the order of parameters_of(); whether
// all of them fit is for check_parameters. The cell's own numbers are left out.
Spec sizes_of(const std::string& cell, int64_t layers, int64_t directions,
              const std::vector<View>& parameters);

// Parameters in the order of parameters_of().
void check_parameters(const Spec& spec, const std::vector<View>& views);

// T and B of a call: not negative, and no array of it has more bytes than int64 counts.
void check_sizes(const Spec& spec, int64_t T, int64_t B);

// x gives T and B.
Problem check_input(const Spec& spec, const View& x, bool batch_first, int64_t recompute = 0);

// An array of the layer's dtype (wide: of that of states beside h) and of this shape, to be read.
void check_values(const Spec& spec, const std::string& name, const View& view, const Shape& shape,
                  bool wide = false);

// The same, in C order without gaps: what is walked as one block.
void check_block(const Spec& spec, const std::string& name, const View& view, const Shape& shape,
                 bool wide = false);

// Row lengths: [B] integers. What they are is read by read_lengths, to `all` (without a view all
// T, and refused outside 0..T), or by a kernel where the host does not see them.
void check_lengths(const Spec& spec, const Problem& problem, const View& lengths);
void read_lengths(const Spec& spec, const Problem& problem, const View& lengths, int64_t* all);

// Arrays of one call must be on one device; returns it, kHost where none is given.
int check_device(const Spec& spec, const std::vector<Named>& arrays);

// Booleans of shape (T, B) as the problem lays it out.
void check_resets(const Spec& spec, const Problem& problem, const View& resets);

// Arrays to be written, unless fresh: dtype and shape as check_values, writeable, every element at
// an address of its own, and apart from each other and from every input.
struct Output {
  std::string name;
  const View* view;
  Shape shape;
  bool contiguous = false;  // must it be?
  bool wide = false;
};
void check_outputs(const Spec& spec, const std::vector<Output>& outputs,
                   const std::vector<Named>& inputs);

// The arrays of a call, and all that is to be checked of them.
struct CallInputs {
  View x, initial[kMaxStates], lengths, resets;
  std::vector<View> masks;  // with has_masks one for each layer but the last
  bool has_masks = false;
  bool batch_first = false;
  int64_t recompute = 0;  // Problem::recompute of the tape
};
struct TapeViews {
  View inner, states, saved;
};
struct ForwardCall : CallInputs {
  View y, final[kMaxStates];  // out; final: not given where it is not wanted
  bool keep_tape = false;
  TapeViews tape;  // out
};
struct BackwardCall : CallInputs {
  View y;
  TapeViews tape;
  View dy, dfinal[kMaxStates];
  View dx, dinitial[kMaxStates];  // out; dx: not given where it is not wanted
  std::vector<View> dparameters;  // out; all, or none where they are not wanted
};

// What both directions are given; x gives the problem.
Problem check_inputs(const Spec& spec, const CallInputs& call);
std::vector<Named> named_inputs(const Spec& spec, const CallInputs& call);
// The rest. (Outputs that were made for the call are not looked at.)
void check_forward(const Spec& spec, const Problem& problem, const ForwardCall& call);
void check_backward(const Spec& spec, const Problem& problem, const BackwardCall& call);

}  // namespace fastrnn
