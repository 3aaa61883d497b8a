// The shared products of one level and one element type. CMake compiles this file once for each,
// with FASTRNN_UNIT_LEVEL and FASTRNN_UNIT_ELEMENT as kernel.cpp has them.
#include "products.h"

namespace fastrnn {
namespace FASTRNN_ISA {

FASTRNN_SHARED_PRODUCTS(, FASTRNN_UNIT_ELEMENT)

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
