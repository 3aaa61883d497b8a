// Every rule about sizes, shapes, dtypes and buffers. All of a call is checked before anything is
// written; what passes here cannot make a kernel read or write outside its arrays.
#pragma once

#include <string>
#include <vector>

#include "problem.h"

namespace fastrnn {

struct Named {
  std::string name;
  const View* view;
};

// Sizes of a layer: positive, and small enough that no array of it has more bytes than int64
// counts.
void check_spec(const Spec& spec);

// Parameters in the order of parameters_of().
void check_parameters(const Spec& spec, const std::vector<View>& views);

// T and B of a call: not negative, and no array of it has more bytes than int64 counts.
void check_sizes(const Spec& spec, int64_t T, int64_t B);

// x gives T and B.
Problem check_input(const Spec& spec, const View& x, bool batch_first, int64_t recompute = 0);

// An array of the layer's dtype and of this shape, to be read.
void check_values(const Spec& spec, const std::string& name, const View& view, const Shape& shape);

// The same, in C order without gaps: what is walked as one block.
void check_block(const Spec& spec, const std::string& name, const View& view, const Shape& shape);

// Row lengths, [B] integers in 0..T, to `all`; without a view all T.
void check_lengths(const Spec& spec, const Problem& problem, const View& lengths, int64_t* all);

// Booleans of shape (T, B) as the problem lays it out.
void check_resets(const Spec& spec, const Problem& problem, const View& resets);

// Arrays to be written, unless fresh: dtype and shape as check_values, writeable, every element at
// an address of its own, and apart from each other and from every input.
struct Output {
  std::string name;
  const View* view;
  Shape shape;
  bool contiguous = false;  // must it be?
};
void check_outputs(const Spec& spec, const std::vector<Output>& outputs,
                   const std::vector<Named>& inputs);

}  // namespace fastrnn
