// The ways to run a scan on a GPU. Each has a plan, memory and launches of its own; which one runs
// a pass is chosen by the model of its time among those that accept it.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "device.h"
#include "device_errors.h"
#include "library.h"
#include "stack.h"

namespace fastrnn {
namespace gpu {

// What a plan depends on.
struct Work {
  const std::string& op;
  const KernelSet& kernels;
  const Device& device;
  int64_t T, B, H, P;  // P: values of h
  int directions;
  bool backward;
  bool tf32;             // may float32 be multiplied as TF32?
  bool can_be_recorded;  // the library

  // Microseconds for an amount, at a rate of one SM in each cycle.
  double microseconds(double amount, double rate) const {
    return amount / rate / (device.gigahertz * 1e3);
  }
};

class Mode;
struct Plan {
  const Mode* mode = nullptr;
  Grid grid{};  // of the grid mode, without its counters
  int blocks = 0, threads = 0;
  bool cooperative = false;  // all blocks at once
  int64_t shared = 0;        // bytes of a block
  double microseconds = 0;   // of one step, as the model has it
  std::string instead_of;    // a quicker plan that the device has refused, in words; else empty
};

// Where a scan runs: its plan, the memory that its mode asked for, and the products of the library.
struct Site {
  const Stack& stack;
  const Plan& plan;
  Library& library;
  void* stream;
  int64_t B;
  std::vector<View> memory;  // as Mode::memory asked for it
  int first_array;           // the number of the first of it
  // Arrays of the scan's recurrent weights, of each product of a step and each direction.
  std::vector<int> weights[kMaxProducts];
};

class Mode {
 public:
  virtual ~Mode() = default;
  virtual const char* name() const = 0;
  // For a message: what a pass must keep to.
  virtual const char* limits() const { return "any size"; }
  // A plan, or one without blocks where the mode cannot run the pass.
  virtual Plan plan(const Work& work) const = 0;
  // Memory that the scans of a call need; it serves one after the other.
  virtual std::vector<Request> memory(const Work& work, const Plan& plan) const = 0;
  virtual void run(const Site& site, ForwardPass pass) const = 0;
  virtual void run(const Site& site, BackwardPass pass) const = 0;
};

// All modes, which are those of modes.def: each is made by a function of its own file.
#define FASTRNN_MODE(name) const Mode& name##_mode();
#include "modes.def"
#undef FASTRNN_MODE
const std::vector<const Mode*>& modes();

// Which mode the tests or a user asked for; null: the best. Throws Error(kValue) for another name
// than a mode's or "best".
const Mode* mode_in_use();
void use_mode(const std::string& name);
// Whether the recurrent products of float32 are made as TF32, by tensor cores.
bool tf32_in_use();
void use_tf32(bool use);

// The quickest plan by the models, or that of the mode in use. Throws Error(kNotImplemented) where
// that mode cannot run the pass. Plans are kept: a device is asked for its occupancy once.
Plan plan_pass(const Work& work);
// What a device has refused by TooManyBlocks. No cooperative plan of so many blocks is made there
// any more.
void refuse_blocks(const Device& device, int blocks);

}  // namespace gpu
}  // namespace fastrnn
