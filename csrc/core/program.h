// A call as a program: scans, and what surrounds them, over named buffers. It is plain data, made
// by lower() and executed by the engines.
#pragma once

#include <stdint.h>

#include <memory_resource>
#include <variant>
#include <vector>

#include "array.h"
#include "call.h"
#include "problem.h"

namespace fastrnn {

// An array of the call, or one that the program needs besides.
struct Buffer {
  const char* scratch;  // what scratch is for; null: an array of the call ...
  Role role;            // ... in this role,
  int64_t item;         // this one of the role's; of tape arrays, the part of this layer
  Shape shape;          // of scratch, or of the part
  bool accumulator;     // elements that sums are made in, rather than storage
  bool as_x;            // laid out as the call's x; else time comes first
};
constexpr int kNoBuffer = -1;

// A block of a buffer that is seen as rows of its last dimension.
struct Matrix {
  int buffer;
  int64_t row, rows, column, columns;
};

// c = a b, or c += a b. Either factor may be transposed.
struct Gemm {
  Matrix c, a, b;
  bool transpose_a, transpose_b, accumulate;
};

// Times [begin, end) of `from` to the first rows of `to`; times a mask where there is one.
struct Copy {
  CopyRule rule;
  int from, to, mask = kNoBuffer;
  int64_t begin = 0, end = 0;
  int64_t layer = 0, direction = 0;  // of kBefore: the pass whose output it is
};

// Scan steps [begin, end) of a layer, in one direction or all, and what both passes read there.
constexpr int kAllDirections = -1;
struct Recurrence {
  int64_t layer;
  int direction;
  int64_t begin, end;
  int input, mask;    // of the layer: read by engines whose scans multiply by W_ih themselves
  int output;         // of the layer: rows of D * H
  int states, saved;  // the cell state and what backward needs, of each step; no buffer: not kept
  int checkpoints;    // of a small tape: where the cell state before a window is
};

// The recurrence. With `recompute` its results are known from before, and only the states and saved
// values of these steps are wanted, for the ScanBackward that follows.
struct Scan : Recurrence {
  bool recompute;
  int gates[2];       // W_ih x of each direction, where products are ops of their own
  int window_output;  // of a recompute: scratch for h, where they are not
};

// Back through the recurrence. It gives the gradients of the biases and of the parameters of a
// unit, too, since it has those of each step at hand; and that of the initial state where begin is
// 0. The gradient of the state before the window stays with the engine.
struct ScanBackward : Recurrence {
  int dy;
  int dx;              // out, where the scan multiplies itself; no buffer: not wanted
  bool accumulate_dx;  // the other direction's is there
  int dgates[2];       // out, where it does not: rows of planes of H of each direction
  bool first;          // of the layer's windows: the parameters' gradients have nothing yet
  // Out, as dgates, where a step has two products: rows of v where they are wanted, and of the
  // gradient of a projected h.
  int v[2] = {kNoBuffer, kNoBuffer}, dprojected[2] = {kNoBuffer, kNoBuffer};
};

using Op = std::variant<Gemm, Copy, Scan, ScanBackward>;

struct Program {
  std::pmr::vector<Buffer> buffers;
  std::pmr::vector<Op> ops;

  explicit Program(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : buffers(memory), ops(memory) {}
};

// What an engine wants to be given.
struct Lowering {
  // Products and masks around a scan are ops of their own, and a scan runs all directions. Else
  // scans do all of it, each for one direction.
  bool products;
  int64_t steps;   // of the longest row; T where the host does not know the lengths
  int64_t window;  // steps that backward takes at once where it recomputes
  // Of packed arrays, how many rows lie before those of a step. A window then is as many steps as
  // have the rows of so many steps of the whole batch.
  const int64_t* offsets = nullptr;
};

// What backward has to recompute with a small tape: nothing where h is all that it needs.
bool recomputes(const Spec& spec, const Problem& problem);
// Steps that it takes at once then: whole pieces between checkpoints, and so many steps at least.
int64_t window_steps(const Problem& problem, int64_t at_least);

Program lower(const Spec& spec, const Problem& problem, const Call& call, const Lowering& lowering,
              std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace fastrnn
