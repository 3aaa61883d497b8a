// One cell at one level, for the element types that it has there. CMake compiles this file once for
// each, with definitions:
//
//   FASTRNN_UNIT_LEVEL    name of a row of simd/levels.def, whose flags the unit has
//   FASTRNN_UNIT_CELL     name, struct and header of a line of cells/registry.h:
//   FASTRNN_UNIT_STRUCT     lstm, Lstm,
//   FASTRNN_UNIT_HEADER     "cells/lstm.h"
//   FASTRNN_UNIT_MATH     Exact or Chosen; Linear in a test
//   FASTRNN_UNIT_ELEMENTS(X)  X(float) X(double) X(float16) X(bfloat16), or some of them
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

#define FASTRNN_UNIT_PRODUCTS(Element) FASTRNN_SHARED_PRODUCTS(extern, Element)
FASTRNN_UNIT_ELEMENTS(FASTRNN_UNIT_PRODUCTS)

using TheCell = FASTRNN_UNIT_STRUCT;

template <class Element> struct KernelOf {
  using TheForward = Forward<TheCell, FASTRNN_UNIT_MATH, Element>;
  using TheBackward = Backward<TheCell, FASTRNN_UNIT_MATH, Element>;
  using TheMatrices = MatrixPacking<TheCell, Element>;

  template <int phase> static constexpr PhaseEntry phase_entry() {
    if constexpr (phase < Phases<TheCell>::kCount) {
      using P = Packing<Phase<TheCell, phase>, Element>;
      return {P::layout(), P::pack_bias};
    } else {
      return {};
    }
  }
  using StepFunction = void (*)(const StepPass*, int, int);
  static constexpr StepFunction step_entry() {
    if constexpr (Phases<TheCell>::kCount == 1)
      return Step<TheCell, FASTRNN_UNIT_MATH, Element>::entry;
    else
      return nullptr;
  }

  static constexpr KernelEntry kEntry = {
      FASTRNN_TEXT(FASTRNN_UNIT_CELL),
      FASTRNN_TEXT(FASTRNN_UNIT_LEVEL),
      Stored<Element>::kKind,
      sizeof(Element),
      sizeof(Factor<Element>),
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
      step_entry(),
      TheMatrices::size,
      TheMatrices::pack,
      UnitPacking<TheCell, Element>::pack,
      TheForward::scratch,
      TheBackward::shared,
      TheBackward::scratch,
  };
};

// kernel_<cell>_<element>
#define FASTRNN_UNIT_NAME(Element) \
  FASTRNN_PASTE(FASTRNN_PASTE(kernel_, FASTRNN_UNIT_CELL), FASTRNN_PASTE(_, Element))
#define FASTRNN_UNIT_ENTRY(Element)                    \
  extern const KernelEntry FASTRNN_UNIT_NAME(Element); \
  const KernelEntry FASTRNN_UNIT_NAME(Element) = KernelOf<Element>::kEntry;
FASTRNN_UNIT_ELEMENTS(FASTRNN_UNIT_ENTRY)

}  // namespace FASTRNN_ISA

}  // namespace fastrnn
