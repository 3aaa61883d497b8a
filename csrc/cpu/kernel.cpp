// One cell at one level for one element type. CMake compiles this file once for each, with
// definitions:
//
//   FASTRNN_UNIT_LEVEL    name of a row of simd/levels.def, whose flags the unit has
//   FASTRNN_UNIT_CELL     name, struct and header of a line of cells/registry.h:
//   FASTRNN_UNIT_STRUCT     lstm, Lstm,
//   FASTRNN_UNIT_HEADER     "cells/lstm.h"
//   FASTRNN_UNIT_ELEMENT  float, double, float16 or bfloat16
//   FASTRNN_UNIT_MATH     Exact or Chosen; Linear in a test
//
// Everything that the unit reaches lives in fastrnn::isa_<level>, since it is compiled for that
// level, and it includes neither the C++ library nor Python.
#include "../cells/chosen.h"
#include "../simd/math.h"
#include FASTRNN_UNIT_HEADER
#include "backward.h"
#include "forward.h"
#include "products.h"
#include "step.h"

namespace fastrnn {

namespace FASTRNN_ISA {

FASTRNN_SHARED_PRODUCTS(extern, FASTRNN_UNIT_ELEMENT)

using Element = FASTRNN_UNIT_ELEMENT;
using TheCell = FASTRNN_UNIT_STRUCT;
using TheForward = Forward<TheCell, FASTRNN_UNIT_MATH, Element>;
using TheBackward = Backward<TheCell, FASTRNN_UNIT_MATH, Element>;
using TheMatrices = MatrixPacking<TheCell, Element>;

template <int phase> constexpr PhaseEntry phase_entry() {
  if constexpr (phase < Phases<TheCell>::kCount) {
    using P = Packing<Phase<TheCell, phase>, Element>;
    return {P::G, P::U * P::L, P::gates_size, P::pack_gates, P::pack_bias};
  } else {
    return {};
  }
}

using StepFunction = void (*)(const StepPass*, int, int);
template <class Cell> constexpr StepFunction step_entry() {
  if constexpr (Phases<Cell>::kCount == 1)
    return Step<Cell, FASTRNN_UNIT_MATH, Element>::entry;
  else
    return nullptr;
}

// kernel_<cell>_<element>
#define FASTRNN_UNIT_NAME \
  FASTRNN_PASTE(FASTRNN_PASTE(kernel_, FASTRNN_UNIT_CELL), FASTRNN_PASTE(_, FASTRNN_UNIT_ELEMENT))

extern const KernelEntry FASTRNN_UNIT_NAME;
const KernelEntry FASTRNN_UNIT_NAME = {
    FASTRNN_TEXT(FASTRNN_UNIT_CELL),
    FASTRNN_TEXT(FASTRNN_UNIT_LEVEL),
    Stored<Element>::kKind,
    sizeof(Element),
    sizeof(Acc<Element>),
    TheCell::kGates,
    TheCell::kStates,
    TheCell::kSaved,
    TheCell::kUnit,
    Phases<TheCell>::kCount,
    Phases<TheCell>::kProjects,
    TheForward::L,
    TheForward::kRows,
    Planes<TheCell>::kAll,
    {phase_entry<0>(), phase_entry<1>()},
    sizeof(TheForward),
    sizeof(TheBackward),
    next_task<TheForward, ForwardPass>,
    next_task<TheBackward, BackwardPass>,
    step_entry<TheCell>(),
    TheMatrices::size,
    TheMatrices::pack,
    UnitPacking<TheCell, Element>::pack,
    TheForward::scratch,
    TheBackward::shared,
    TheBackward::scratch,
};

}  // namespace FASTRNN_ISA

}  // namespace fastrnn
