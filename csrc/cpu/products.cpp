// The shared products of one level and one element type. CMake compiles this file once for each,
// with FASTRNN_UNIT_LEVEL as kernel.cpp has it and FASTRNN_UNIT_ELEMENT, one of its element types.
#include "products.h"

namespace fastrnn {
namespace FASTRNN_ISA {

FASTRNN_SHARED_PRODUCTS(, FASTRNN_UNIT_ELEMENT)

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
