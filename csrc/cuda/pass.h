// The arguments of a kernel: one layer, all its directions, over a window of steps. Plain data,
// passed by value, for the host and for the device.
//
// Rows run in lockstep: at scan step s every row is at the time t = s, or T - 1 - s in reverse. A
// row takes part while t is below its length, so in reverse a short row joins late. Strides are in
// elements unless said otherwise. Every array is in device memory.
//
// Element types: S is the storage type of the call; A is its accumulator type, float, or double
// where S is double. h is of S, the cell state (an LSTM's c) of A.
#pragma once

#include <stdint.h>

#include "../cells/maths.h"
#include "../core/schedule.h"
#include "layout.h"

namespace fastrnn {
namespace gpu {

// Storage of 16 bits; what can be done with it is in gpu.h.
struct Half {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

constexpr int kMaxDirections = 2;
constexpr int kMaxProducts = 2;  // of a step: with h, and with the v of a cell of two phases

// A strided array of rows: that of (t, b) is at base + t * t_stride + b * b_stride.
struct RowView {
  void* base;  // null: not given
  int64_t t_stride, b_stride;
};

// What a kernel has found wrong, in memory of the host, who reads it without waiting. The first
// error stays until the host has raised it.
enum DeviceErrorCode : int { kNoError = 0, kLengthOutside = 1 };
struct DeviceError {
  int code;
  int64_t row, value;
  const char* abandoned;  // Grid::name of a kernel that ended itself, and all work with it
};

// Which steps each row takes. The same for all layers and directions.
struct RowSteps {
  int64_t T, B;
  const void* length;     // [B] integers, or null: all T
  int64_t length_stride;  // bytes
  int length_bytes, length_signed;
  StepInputs inputs;
  DeviceError* error;
};

// What makes `before` of the passes where rows are held, for all directions.
struct LayOutPass {
  RowSteps scan;
  int64_t directions;
  int reverse[kMaxDirections];
  int32_t* before;  // out, [D][T + 1][B]
};

struct ForwardDirection {
  int reverse;
  // [T + 1][B], or null where no row is held: what each step goes on from, as Schedule::before has
  // it; in the last row, what the final state is that of.
  const int32_t* before;
  const void* w_hh;           // (G*H, H) of S
  const void *b_ih, *b_hh;    // (G*H) of S, or null
  const void* w_diag;         // (kUnit*H) of S, or null for zeros
  CellMaths maths;            // for a cell whose functions are chosen
  RowView x;                  // W x_t: rows of G*H of S; those of the window alone
  RowView h;                  // out: rows of P of S; of all T
  RowView state[kMaxStates];  // out, from [1] on: rows of H of A, or null; see state_every
  RowView saved;              // out: rows of [kSaved][H] of S, or null; those of the window alone
  // (B, H): [0], of P, of S, the others of A; or null for zeros. Before the row's first step...
  const void* initial[kMaxStates];
  // ... and, from [1] on, before the window's first where begin > 0; there h comes from `h`.
  const void* entering[kMaxStates];
  void* final[kMaxStates];  // out, (B, H): [0] of S, the others of A; or null
  // Stepwise: the states beside h to go on with, from [1] on, (B, H) of A; and of each product what
  // the library multiplies, h (B, P) and v (B, H), and what it gives: (B, n) of S for n rows of the
  // weights.
  void* carry[kMaxStates];
  void *factor[kMaxProducts], *product[kMaxProducts];
};

struct ForwardPass {
  RowSteps scan;
  int64_t H;  // units; h has P values
  int directions;
  int64_t begin, end;  // the window, in scan steps
  // 1: the states of every step, at their time. k: those after scan steps k - 1, 2k - 1, ... and
  // the last, in this order.
  int64_t state_every;
  int recompute;  // h is there already, and is not written again
  Grid grid;
  ForwardDirection direction[kMaxDirections];
  int64_t P;
  // Stepwise, in a graph: the steps that its replays have done, going back less than none, which
  // are added to the scan step of a launch; else null.
  const int32_t* replayed;
};

struct BackwardDirection {
  int reverse;
  const int32_t* before;  // as in the forward pass
  const void *w_hh, *w_diag;
  CellMaths maths;
  RowView h;                  // as forward left them, all T
  RowView state[kMaxStates];  // from [1] on; those of the window alone
  RowView saved;              // likewise
  const void* initial[kMaxStates];
  const void* entering[kMaxStates];
  RowView dy;  // rows of P of S
  // out: rows of planes of H of S, those of the window alone. With w_diag the planes of its
  // gradients come last.
  RowView dgates;
  // (B, H), [0] of S and the others of A: the gradient of the final state, where the window ends at
  // T, or null for zeros; and, out, of the initial state, where the window begins at 0.
  const void* dfinal[kMaxStates];
  void* dinitial[kMaxStates];
  void* dstate[kMaxStates];  // (B, H) of A: what goes from a window, or a step, to the one before
  // Stepwise, of each product: dproduct, out, the gradient of what it gave, (B, n) of S; product,
  // that times the weights, (B, P) and (B, H).
  void* dproduct[kMaxProducts];
  const void* product[kMaxProducts];
  // Of a step of two products, out, those of the window alone: rows of H of S with v, or null; and
  // rows of P with the gradient of a projected h.
  RowView v, dprojected;
};

// Rows of a sequence to others: see CopyRule. Its names are those of a pass, since it follows the
// same rules of time.
struct CopyPass {
  RowSteps scan;
  int64_t H;           // elements of a row
  int64_t begin, end;  // times of `h`; the first goes to the first row of `to`
  CopyRule rule;
  int reverse;
  const int32_t* before;
  RowView h, mask, to;     // mask: null, or multiplied into what is copied
  const void* initial[1];  // (B, H), or null for zeros: of kBefore
};

struct BackwardPass {
  RowSteps scan;
  int64_t H;  // units; h has P values
  int directions;
  int64_t begin, end;
  Grid grid;
  BackwardDirection direction[kMaxDirections];
  int64_t P;
  const int32_t* replayed;  // as in the forward pass
};

}  // namespace gpu
}  // namespace fastrnn
