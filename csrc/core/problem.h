// The sizes of a layer (Spec) and of a call (Problem).
#pragma once

#include <stdint.h>

#include <algorithm>
#include <string>
#include <vector>

#include "array.h"
#include "cell_name.h"
#include "scheme.h"

namespace fastrnn {

// n / k, rounded up.
inline int64_t ceil_div(int64_t n, int64_t k) { return n / k + (n % k > 0); }

// The parameters of a pass, in the order in which they come. kWeightDiag: those of a unit alone,
// such as its peepholes; kWeightHr: the projection of h; kScaleIh and its likes: of the rows of
// quantized weights.
enum Parameters : int {
  kWeightIh,
  kWeightHh,
  kBiasIh,
  kBiasHh,
  kWeightDiag,
  kWeightHr,
  kScaleIh,
  kScaleHh,
  kScaleHr
};
constexpr int kParameterKinds = kScaleHr + 1;

// The sizes of a stack of layers.
struct Spec {
  std::string op;  // the cell's name; it opens every message
  int element_bytes;
  int64_t layers, directions, inputs, units;  // L D I H
  bool bias;
  int64_t gates, states, saved;  // of the cell
  char kind = 'f';               // of an element, as View has it
  unsigned split_gates = 0;      // of the cell, a bit for each gate: see core/planes.h
  int64_t second_gates = 0;      // of the cell, those that v is multiplied by, the last ones
  int64_t unit_parameters = 0;   // of the cell, as the caller has them: see core/cell_name.h
  int64_t projection = 0;        // P where h is projected, else 0
  CellMaths maths[2] = {};       // of the cell, in each direction
  // Is what a step multiplies (h, and v where there are two products) within 1, but for an h that
  // was given, is masked, or is projected? In each direction.
  bool bounded[2] = {};
  const WeightScheme* scheme = nullptr;  // of quantized weights

  // Of an element that sums are made in, and the cell state: at least a float.
  int64_t accumulator_bytes() const { return std::max(element_bytes, 4); }
  ElementType element() const { return {kind, element_bytes}; }
  ElementType accumulator() const { return {'f', accumulator_bytes()}; }
  // Values of h, which are the outputs of a direction; and of any state.
  int64_t outputs() const { return projection ? projection : units; }
  int64_t state_width(int64_t state) const { return state == 0 ? outputs() : units; }
  int64_t widest_state() const { return std::max(outputs(), units); }
  // Does a step multiply twice, h and a vector v of H values that it makes?
  bool two_products() const { return second_gates > 0 || projection > 0; }
  int64_t layer_inputs(int64_t layer) const { return layer == 0 ? inputs : layer_outputs(); }
  int64_t layer_outputs() const { return directions * outputs(); }
  // A pass is a layer in one direction. Passes have numbers, and so have their parameters.
  int64_t passes() const { return layers * directions; }
  int64_t pass(int64_t layer, int64_t direction) const { return layer * directions + direction; }
  // Of the kinds of parameters those that there are: how many, the place of one among them, and the
  // kind at a place.
  int64_t params_per_pass() const { return place_of(kParameterKinds); }
  bool has(int kind) const {
    if (kind == kWeightDiag) return unit_parameters > 0;
    if (kind == kWeightHr) return projection > 0;
    if (kind >= kScaleIh) return scheme && scheme->scaled && (kind != kScaleHr || projection > 0);
    return bias || kind < kBiasIh;
  }
  int64_t place_of(int kind) const {
    int64_t place = 0;
    for (int before = 0; before < kind; ++before) place += has(before);
    return place;
  }
  int kind_at(int64_t place) const {
    int kind = 0;
    while (!has(kind) || place-- > 0) ++kind;
    return kind;
  }
  int64_t parameter(int64_t layer, int64_t direction, int kind) const {
    return pass(layer, direction) * params_per_pass() + place_of(kind);
  }
};

// Sets what the cell's name says, and checks that it fits the directions.
void set_cell(const CellName& cell, Spec* spec);

struct Parameter {
  std::string name;
  Shape shape;
};
// In torch's order: layer, direction, then w_ih w_hh b_ih b_hh, w_diag and w_hr.
std::vector<Parameter> parameters_of(const Spec& spec);
// Those of one of them.
Shape parameter_shape(const Spec& spec, int64_t item);
ElementType parameter_type(const Spec& spec, int64_t item);

// The sizes of a call, and where T and B stand in the caller's arrays.
template <class Size> struct BasicProblem {
  Size T = 0, B = 0;
  bool batched = true, batch_first = false;
  // 0: the tape holds all that backward needs. k: the states of every k-th step alone, from which
  // backward computes the rest again.
  int64_t recompute = 0;
  // Are arrays beside the caller's packed: one row for each row that runs at a step, `rows` in all?
  // Else they are (T, B, n). With packed_x the caller's are packed too, (rows, n).
  bool packed = false, packed_x = false;
  Size rows = 0, kept_rows = 0;  // of these, rows that the tape's states have
  bool masks_of_gates = false;   // has each gate a recurrent mask of its own?

  // Steps whose states the tape holds.
  Size kept_steps() const { return recompute ? ceil_div(T, recompute) : T; }

  // (T, B, n), (B, T, n), (T, n) or, packed, (rows, n)
  BasicShape<Size> sequence(const Size& width) const {
    if (packed_x) return {rows, width};
    if (!batched) return {T, width};
    return batch_first ? BasicShape<Size>{B, T, width} : BasicShape<Size>{T, B, width};
  }
  // Where time and the batch stand in such an array; -1 where there is no batch.
  int time_axis() const { return batched && batch_first ? 1 : 0; }
  int batch_axis() const { return !batched ? -1 : batch_first ? 0 : 1; }
};
using Problem = BasicProblem<int64_t>;

}  // namespace fastrnn
