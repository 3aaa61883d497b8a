// The shared products of one level and one element type. CMake compiles this file once for each,
// with FASTRNN_UNIT_LEVEL as kernel.cpp has it and FASTRNN_UNIT_ELEMENT, one of its element types.
#include "products.h"

namespace fastrnn {
namespace FASTRNN_ISA {

using S = FASTRNN_UNIT_ELEMENT;
FASTRNN_SHARED_PRODUCTS(, S)

// Where rows of S are floats to a product, those that are floats from the start can be multiplied
// with weights of S as well.
static constexpr bool kServesFloats = !is_same<S, float> && is_same<Factor<S>, float>;
template <bool floats> struct RowsOf {
  using Type = S;
};
template <> struct RowsOf<true> {
  using Type = float;
};

#define FASTRNN_UNIT_PRODUCTS FASTRNN_PASTE(products_, FASTRNN_UNIT_ELEMENT)
static constexpr ProductEntry kEntries[] = {ProductOf<S, S>::entry(""),
                                            ProductOf<RowsOf<kServesFloats>::Type, S>::entry(
                                                FASTRNN_TEXT(FASTRNN_UNIT_ELEMENT) "_weights")};
extern const ProductList FASTRNN_UNIT_PRODUCTS;
const ProductList FASTRNN_UNIT_PRODUCTS = {kEntries, kServesFloats ? 2 : 1};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
