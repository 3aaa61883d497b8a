// The CPU engine: one call runs a whole stack of layers, forward or backward.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "../core/problem.h"
#include "../core/validate.h"
#include "kernel_table.h"
#include "memory.h"
#include "plan.h"

namespace fastrnn {

// The weights of a stack as the kernels read them: copies, so the arrays they came from may change.
// Quantized ones serve inference alone.
// Those for either kind of pass are packed when first needed.
class Weights {
 public:
  // Throws Error: unknown cell, impossible sizes.
  Weights(const std::string& cell, LayerType type, int64_t layers, int64_t directions,
          int64_t inputs, int64_t units, bool bias, int64_t projection = 0);

  const Spec& spec() const { return spec_; }
  const KernelEntry& kernel() const { return *kernel_; }
  const ProductEntry& product() const { return *product_; }
  // Of pass layer * D + direction.
  const GatePanels& gate_panels(int64_t pass, int phase) const {
    return panels(false)->gates[pass * kernel_->phases + phase];
  }
  const MatrixPanels& matrix_panels(int64_t pass) const { return panels(true)->matrices[pass]; }

  // Validates the parameters and packs them for forward() or backward(); does nothing when that is
  // done already. May be called from several threads.
  void pack(const std::vector<View>& parameters, bool backward);
  bool packed(bool backward) const { return panels(backward) != nullptr; }
  int64_t bytes() const;
  ~Weights();

 private:
  struct Panels {
    Block memory;
    std::vector<GatePanels> gates;       // for forward, of each pass and phase,
    std::vector<MatrixPanels> matrices;  // or for backward
  };
  const Panels* panels(bool backward) const {
    return panels_[backward].load(std::memory_order_acquire);
  }

  Spec spec_;
  const KernelEntry* kernel_;
  const ProductEntry* product_;
  // Set once, by whoever has packed first. Not under a lock: a child of fork() would find it locked
  // for ever where another thread was packing.
  std::atomic<const Panels*> panels_[2] = {{nullptr}, {nullptr}};
};

// Runs a call, whose x has given the problem (check_rows). Throws Error before anything is
// written. The weights must be packed for the pass, and for backward with recompute in both ways.
void run(const Weights& weights, const Problem& problem, const Call& call);

// What packing the call's parameters and run() do, to the same bits, without packing: for a single
// step, where that is less work. Does a call ask for such a step, do the parameters lie right, and
// is the step one product?
bool takes_step(const Weights& weights, const Problem& problem, const Call& call);
void step(const Weights& weights, const Problem& problem, const Call& call);

// A call with its parameters: the step that takes_step() tells of, or packing and run().
void run_with_parameters(Weights& weights, const Problem& problem, Call& call);

// Weights of the sizes that parameters have (sizes_of), not packed yet.
Weights weights_of(const Spec& sizes);

// The plan of a call of this size, all rows of full length, without masks, and the bytes of memory
// that it takes for itself, beside its arrays.
struct Usage {
  Plan plan;
  int64_t workspace;
};
Usage usage(const Weights& weights, const Problem& problem, Kind kind);

}  // namespace fastrnn
