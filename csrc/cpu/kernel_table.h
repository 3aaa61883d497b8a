// The boundary between the engine and the kernels of one instruction set: plain data and function
// pointers. Functions that come with it are always inlined, so that none is compiled under an
// instruction set's flags and then serves others.
//
// Strides are in elements. A `Sequence` is T x B rows of contiguous values, each found by its own
// pointer, which makes padded, packed, strided, batch-first and length-sorted arrays one path
// without a copy. Rows of the batch are visited at *positions*, longest first: position p holds row
// `row[p]`, so the rows that are active at a step are a prefix. A *scan step* s counts the steps
// that a row runs in the direction of the pass: t = s, or length - 1 - s in reverse; see
// core/schedule.h.
#pragma once

#include <stdint.h>

#include "../cells/maths.h"
#include "../core/schedule.h"

namespace fastrnn {

// What the next task of a part waits for: that the parts which share its rows (kGroup), or all
// parts (kTeam), have done as many tasks as this part; see cpu/team.h. kEnd: there is no next task.
enum class Need : int { kNothing, kGroup, kTeam, kEnd };

struct Sequence {
  void* base;  // null: not given
  int64_t t_stride, b_stride;
  // 0: the array has a row for each time t. Else it has one row for so many scan steps, of which
  // `first_step` is the first, with `first_row` of a packed sequence.
  int64_t steps_per_row, first_step, first_row;
  // Of a packed sequence, how many rows lie before those of each of its steps, which are in the
  // order of positions, t_stride apart. Its steps are those that rows run: of time, or of the scan.
  // Entries -1 and one past the longest row can be read, so that cursors may move there.
  const int64_t* offset;  // null: rows of the batch are b_stride apart at every step
};

struct States {
  void* base[kMaxStates];  // null: zeros (an input) or not wanted (an output)
  int64_t b_stride[kMaxStates];
};

// Masks of what enters the products of a step that serve gates: the row of gate g and row b of the
// batch, which is P wide, is g * gate_stride + b * b_stride past base.
struct RecurrentMasks {
  const void* base;  // null: none
  int64_t count;     // of a row: 0, one for all gates (gate_stride is 0), or one for each
  int64_t gate_stride, b_stride;
};

// Which steps each row takes. The same for all layers and directions.
//
// Where rows are held, `length` and `inputs.reset` count the steps that run alone, and `times` says
// where they are: times[p][i] is the time of the i-th step that the row at position p runs. Entries
// -1 and length can be read too, so that cursors may move past either end.
struct RowSteps {
  int64_t B;
  const int64_t* row;           // [B] position -> row of the batch
  const int64_t* length;        // [B] steps of the row at a position, descending
  const int64_t* const* times;  // [B], or null: no row is held
  const int64_t* end;           // [B] the length as it was given, where rows are held
  StepInputs inputs;
};

// A parameter where the caller has it; strides in elements.
struct StridedMatrix {
  const void* data;
  int64_t row_stride, col_stride;
};
struct StridedVector {
  const void* data;  // null: not given
  int64_t stride;
};

// A step multiplies h, and in cells of two phases a vector v that it makes of the product: by rows
// of W_hh, or by W_hr where h is a projection of v.
constexpr int kMaxPhases = 2;
enum class Product : int { kInput, kFirst, kSecond };  // with x, h and v

// The weights of a product of the step, of one layer in one direction, as
// ProductEntry::pack_gates and PhaseEntry make them...
struct GatePanels {
  const void *w_ih, *w_hh;          // K = I, null for a projection; K = P, or H for v
  const void *scale_ih, *scale_hh;  // [unit blocks][G][lanes], or null: of quantized weights
  const void *bias_x, *bias_r;      // [unit blocks][G][lanes]
  const void* w_diag;               // [unit blocks][kUnit][lanes]
};
// ... and as pack_matrix does, for backward: over (gate, unit), N = I, N = P and N = H.
struct MatrixPanels {
  const void *w_ih, *w_hh, *w_v, *w_diag;
};

// What one part of a call does: the rows and units that one thread of the team is to compute. (On a
// busy machine another thread may do it in its place; see cpu/team.h.)
struct ThreadWork {
  int member, members;
  int64_t row_begin, row_end;     // positions
  int unit_member, unit_members;  // which of the parts that share these rows this is
  // How many of those run the recurrence: all of them, each for its own units; or the first alone,
  // while the others help with the products outside the recurrence.
  int recurrence_threads;
};

struct ProductEntry;

struct ForwardPass {
  const RowSteps* scan;
  const CellMaths* maths;
  const ProductEntry* product;
  int64_t I, H, P;  // P: values of h, H but for a projection
  int reverse;
  int64_t begin, end;             // the window: steps [begin, end) of each row
  Sequence x, mask;               // mask: null, or multiplied into x
  int64_t T;                      // steps of y, the longest row may have fewer
  Sequence states[kMaxStates];    // out; [0]: h, which is y, or where recompute puts it
  Sequence saved;                 // out; rows of [kSaved][H], or null
  Sequence entering[kMaxStates];  // where begin > 0: as states, of step begin - 1
  States initial, final;          // where begin = 0; at each row's end
  GatePanels w[kMaxPhases];
  // Which values of h, and of v, usually are within; 0: none is known.
  float bounds[kMaxPhases];
  RecurrentMasks recurrent_masks;
  int64_t max_rows;        // of a part
  int64_t chunk_rows;      // of a part, whose projection is held at once: one step's at least
  void* scratch;           // forward_scratch() bytes for each member, one after the other
  int64_t scratch_stride;  // bytes
};

struct BackwardPass {
  const RowSteps* scan;
  const CellMaths* maths;
  int64_t I, H, P;
  int reverse;
  // Windows come last first, the last one up to the longest row's end, all with the same chunks.
  // What a window leaves for the one before it stays in `shared` and in the arrays of dW and db.
  int64_t begin, end;
  int64_t T;
  Sequence x, mask;  // as in the forward pass
  Sequence states[kMaxStates], saved, entering[kMaxStates];
  States initial;
  Sequence dy;
  States dfinal, dinitial;  // in (null: zeros), out
  Sequence dx;              // out; rows of I, or null
  int accumulate_dx;        // +=, for the second direction
  void *dw_ih, *dw_hh;      // out; (G*H, I), (G*H, P), contiguous; or both null
  void* dw_hr;              // out; (P, H), of a projection, where those are
  void *db_ih, *db_hh;      // out; (G*H), or null
  void* dw_diag;            // out; (kUnit*H), or null
  MatrixPanels w;
  RecurrentMasks recurrent_masks;
  // Rows whose gradients are held at once, of all steps of a chunk but the first in time.
  int64_t chunk_rows;
  void* shared;   // backward_shared() bytes
  void* scratch;  // backward_scratch() bytes for each member
  int64_t scratch_stride;
};

// One step of a few rows in one direction of one layer, from the parameters as they lie.
constexpr int kStepRows = 8;
struct StepPass {
  const CellMaths* maths;
  int64_t I, H;
  int rows;  // at most kStepRows
  const void* x;
  int64_t x_stride;          // here and below: from row to row
  StridedMatrix w_ih, w_hh;  // (G*H, I), (G*H, H); col_stride is 1
  StridedVector b_ih, b_hh;  // (G*H)
  StridedVector w_diag;      // (kUnit*H)
  const void* initial[kMaxStates];
  int64_t initial_stride[kMaxStates];
  void *y, *final[kMaxStates];  // out; null where not wanted
  int64_t y_stride, final_stride[kMaxStates];
};

// What the workspace of a pass depends on.
struct PassSizes {
  int64_t I, H, P, B;
  int64_t rows;  // of a member, at one step
  int64_t chunk_rows;
  int64_t recurrent_masks;      // RecurrentMasks::count
  int masked;                   // is there a mask of x?
  const ProductEntry* product;  // of forward
};

// How the gates of a product of the step lie in panels.
constexpr int kMaxGates = 4;
struct GateLayout {
  int gates;            // 1 for a projection
  int gate[kMaxGates];  // which of the cell's they are
  int blocks;           // blocks of units that are computed together ...
  int panels;           // ... and the panels that these are
};

// The gates of one product of the step.
struct PhaseEntry {
  GateLayout layout;
  // b_ih, b_hh: (G*H), of all gates; for a projection none, with H = P.
  void (*pack_bias)(const StridedVector* b_ih, const StridedVector* b_hh, int64_t H, void* bias_x,
                    void* bias_r);
};

// Rows of the largest tile.
constexpr int kMaxRows = 8;

// What a tile computes: R rows by N vectors of sums,
//
//   out[r][v] = init[r][v] + sum_k a[r][k] * b[k][v]
//
// What a and b are made of is in simd/factors.h; T is the type of sums.
template <class T> struct TileArgs {
  const void* a[kMaxRows];  // packed: a[0] only, and K is whole lanes
  const T* init[kMaxRows];  // N vectors each
  T* out[kMaxRows];         // N vectors each
  const T* shared_init;     // N vectors for all rows, the source of those in a mask of vectors
  unsigned shared;
  const T* scales = nullptr;  // N vectors, of quantized weights
  int64_t offset = 0;         // of the panel's vectors in all of these
  const void* b;
  int64_t b_step;  // lanes from one k to the next
  int64_t K;
  int64_t panel_step = 0;  // lanes from a panel to the next, where there are several
  int chains = 1;          // pieces of each sum; see cpu/microkernel.h
};
constexpr unsigned kAllVectors = ~0u;
// A tile, once it is cast to what it is.
template <class T> using TileOf = void (*)(const TileArgs<T>&);
using AnyTile = void (*)();

// How forward multiplies rows with weights at one level: what it makes of either, and the tiles.
struct ProductEntry {
  const char* level;
  const char* scheme;  // how weights are quantized; empty where they are elements as rows are
  char element_kind;   // of rows, as View has it
  int element_bytes;
  int lanes;                    // units side by side
  int lane_bytes, lane_values;  // of a lane of packed weights: neighbours in k
  int parts;                    // instructions that add the products of a lane
  int scaled;                   // do rows of the weights have scales?
  int copies;                   // are the factors of a row always a copy? else only where masked
  int64_t (*factor_bytes)(int64_t n);  // that such a copy takes
  // The factors of a row of n elements, times a mask where there is one: the row itself, or `copy`.
  // bound: which values usually are within; 0: none is known.
  const void* (*factors)(const void* row, const void* mask, int64_t n, float bound, void* copy);
  // w: (G*H, K), of all gates; for a projection w_hr, with H = P. Each of `members` does its part.
  void (*pack_gates)(const GateLayout* layout, const StridedMatrix* w, int64_t H, int64_t K,
                     int member, int members, void* out);
  // The tile of R rows and N vectors; for one row, of so many panels and chains.
  AnyTile (*tile)(int R, int N, int panels, int chains);
};
// Those that one unit makes.
struct ProductList {
  const ProductEntry* entries;
  int count;
};

// Everything the engine knows of one cell at one instruction set and element type.
struct KernelEntry {
  const char* cell;
  const char* level;
  char element_kind;  // as View has it
  int element_bytes;
  int factor_bytes;       // of a left factor: see simd/factors.h
  int accumulator_bytes;  // of the type of sums, and of packed biases
  int gates, states, saved, unit_parameters;
  int phases, projects;  // products of a step; whether the last one makes h of any width
  int lanes;             // elements of a vector
  int tile_rows;         // rows of a gate tile
  int planes;            // gradient planes: gates, split ones twice, and parameters of a unit
  PhaseEntry phase[kMaxPhases];

  // Does the next task of a part and returns what the task after it needs. `state` is memory of the
  // caller's, of so many bytes, for the part's progress through the pass; `first` is not 0 at the
  // pass's first task.
  int64_t forward_state, backward_state;
  Need (*forward)(const ForwardPass*, const ThreadWork*, void* state, int first);
  Need (*backward)(const BackwardPass*, const ThreadWork*, void* state, int first);
  // Each of `members` does its part; none waits for another. Null where a step has two phases.
  void (*step)(const StepPass*, int member, int members);
  // Elements that a packed matrix takes: over (K, N).
  int64_t (*matrix_size)(int64_t K, int64_t N);
  // The rows of w (G*H, N) that a product has, in the order of its planes; for a projection those
  // of w_hr, with H = P.
  void (*pack_matrix)(const StridedMatrix* w, int64_t H, int64_t N, Product product, int member,
                      int members, void* out);
  // w: (kUnit*H), or not given: zeros.
  void (*pack_diag)(const StridedVector* w, int64_t H, void* out);
  // Bytes of workspace.
  int64_t (*forward_scratch)(const PassSizes*);
  int64_t (*backward_shared)(const PassSizes*);
  int64_t (*backward_scratch)(const PassSizes*);
};

}  // namespace fastrnn
