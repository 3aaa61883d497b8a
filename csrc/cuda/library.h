// What the executor asks of the library whose arrays a call brings: memory, and products. The
// Python module implements it with CuPy, torch or any other library; a compiler could with its own
// calls.
//
// Arrays have numbers: those of the call and those that the library makes.
#pragma once

#include <stdint.h>

#include <functional>
#include <memory>
#include <vector>

#include "../core/array.h"

namespace fastrnn {
namespace gpu {

enum class Elements : uint8_t { kStorage, kAccumulator, kInt32 };

struct Request {
  Shape shape;
  Elements elements;
};

// A block of an array that is seen as rows of its last dimension.
struct Operand {
  int array;
  int64_t row, rows, column, columns;
};

// c = a b, or c += a b, in the elements of c, which may be wider than the factors'. Either factor
// may be transposed.
struct Product {
  Operand c, a, b;
  bool transpose_a, transpose_b, accumulate;
};

// Sums over the rows of a block, made in the accumulator type and kept as the vector's elements, to
// a vector from `first` on.
struct ColumnSum {
  int vector;
  int64_t first;
  Operand of;
  bool accumulate;
};

using Products = std::vector<Product>;
using ColumnSums = std::vector<ColumnSum>;

// Products that are made again and again with the same operands.
class Repeated {
 public:
  virtual ~Repeated() = default;
  virtual void run() = 0;
  // The same on another stream than that of the call, by any thread.
  virtual void run_on(void* stream) = 0;
};

class Library {
 public:
  virtual ~Library() = default;
  // New arrays in C order on the call's device. Numbers go on from `*first`.
  virtual std::vector<View> allocate(const std::vector<Request>& requests, int* first) = 0;
  virtual void multiply(const Products& products, const ColumnSums& sums) = 0;
  // Writes so many arrays, from a number on, to others of the same shapes, rounded to the elements
  // of these.
  virtual void round(int from, int to, int count) = 0;
  virtual std::unique_ptr<Repeated> prepare(const Products& products) = 0;
  // Whether products that are prepared can be recorded (graph.h).
  virtual bool can_be_recorded() const { return false; }
  // Makes calls that may wait for the device and ask nothing of the library. Where its language has
  // a lock, others may have it meanwhile.
  virtual void let_others_go_on(const std::function<void()>& calls) { calls(); }
};

}  // namespace gpu
}  // namespace fastrnn
