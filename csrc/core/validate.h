// Every rule about sizes, shapes, dtypes and buffers. All of a call is checked before anything is
// written; what passes here cannot make a kernel read or write outside its arrays.
#pragma once

#include <string>
#include <vector>

#include "call.h"
#include "problem.h"

namespace fastrnn {

// Sizes of a layer: positive, and small enough that no array of it has more bytes than int64
// counts.
void check_spec(const Spec& spec);

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

// As check_input, of a call whose lengths or batch_sizes the host has: these say which rows run.
// The arrays beside the caller's are packed then, unless the call wants a whole tape or has one.
Problem check_rows(const Spec& spec, const Call& call);

// Everything that the table of roles (call.h) says of a call, whose x has given the problem: inputs
// first, then outputs, which must be writeable, every element at an address of its own, and apart
// from each other and from every input. Outputs that were made for the call are not looked at. All
// arrays must be on x's device, but for lengths, which may be in the host's memory.
void check_call(const Spec& spec, const Problem& problem, const Call& call);

// The lengths of all rows, from lengths in the host's memory; without a view all are T. Throws
// Error where one is outside 0..T.
void read_lengths(const Spec& spec, const Problem& problem, const View& lengths, int64_t* all);

// Rows at each step, from batch_sizes as a packed x has them. Throws Error where they rise, one is
// below 1, or they do not add up to the rows of x.
void read_batch_sizes(const Spec& spec, const View& batch_sizes, int64_t rows, int64_t* all);

}  // namespace fastrnn
