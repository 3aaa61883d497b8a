// The products of one level with quantized weights of 8 bits. CMake compiles this file once for
// each level that has them, with FASTRNN_UNIT_LEVEL as kernel.cpp has it.
#include "integers.h"
#include "products.h"
#include "widened.h"

namespace fastrnn {
namespace FASTRNN_ISA {

static constexpr ProductEntry kEntries[] = {ProductOf<float, int8>::entry("int8"),
                                            ProductOf<float, widened_int8>::entry("int8_weights")};
extern const ProductList products_int8;
const ProductList products_int8 = {kEntries, sizeof kEntries / sizeof kEntries[0]};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
