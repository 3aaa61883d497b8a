// One cell at one level for one element type. CMake compiles this file once for each, with
// definitions:
//
//   FASTRNN_UNIT_LEVEL    name of a row of simd/levels.def, whose flags the unit has
//   FASTRNN_UNIT_CELL     name, struct and header of a line of cells/registry.h:
//   FASTRNN_UNIT_STRUCT     lstm, Lstm,
//   FASTRNN_UNIT_HEADER     "cells/lstm.h"
//   FASTRNN_UNIT_ELEMENT  float or double
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
using TheStep = Step<TheCell, FASTRNN_UNIT_MATH, Element>;
using ThePacking = Packing<TheCell, Element>;

// kernel_<cell>_<element>
#define FASTRNN_UNIT_NAME \
  FASTRNN_PASTE(FASTRNN_PASTE(kernel_, FASTRNN_UNIT_CELL), FASTRNN_PASTE(_, FASTRNN_UNIT_ELEMENT))

extern const KernelEntry FASTRNN_UNIT_NAME;
const KernelEntry FASTRNN_UNIT_NAME = {
    FASTRNN_TEXT(FASTRNN_UNIT_CELL),
    FASTRNN_TEXT(FASTRNN_UNIT_LEVEL),
    sizeof(Element),
    sizeof(Acc<Element>),
    TheCell::kGates,
    TheCell::kStates,
    TheCell::kSaved,
    TheCell::kUnit,
    ThePacking::L,
    ThePacking::U * ThePacking::L,
    TheForward::kRows,
    Planes<TheCell>::kAll,
    sizeof(TheForward),
    sizeof(TheBackward),
    next_task<TheForward, ForwardPass>,
    next_task<TheBackward, BackwardPass>,
    TheStep::entry,
    ThePacking::gates_size,
    ThePacking::matrix_size,
    ThePacking::pack_gates,
    ThePacking::pack_matrix,
    ThePacking::pack_bias,
    ThePacking::pack_diag,
    TheForward::scratch,
    TheBackward::shared,
    TheBackward::scratch,
};

}  // namespace FASTRNN_ISA

}  // namespace fastrnn
