// Sizes that engines and kernels share. Kernels include this: no C++ library.
#pragma once

namespace fastrnn {

constexpr int kMaxStates = 2;  // of a cell: h, and what stands beside it

}  // namespace fastrnn
