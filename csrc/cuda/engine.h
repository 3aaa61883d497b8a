// The host's side of a pass on a GPU: arrays into ForwardPass and BackwardPass, plans, launches.
//
// The library whose arrays a call brings makes the products around the recurrence and allocates
// everything (python/fastrnn/cuda); here is what one layer's recurrence takes and gives. Arrays in
// the *outer* layout are laid out as the call's x; all others have time first, and are in C order.
#pragma once

#include <string>
#include <vector>

#include "../core/validate.h"
#include "kernels.h"
#include "plan.h"

namespace fastrnn {
namespace gpu {

// A stack of layers.
struct Stack {
  Spec spec;
  const KernelSet* kernels;
};
// dtype: float32, float64, float16 or bfloat16. Throws Error: unknown names, impossible sizes.
Stack make_stack(const std::string& cell, const std::string& dtype, int64_t layers,
                 int64_t directions, int64_t inputs, int64_t units, bool bias);

// A call whose arrays have been checked: its sizes, its device, and which rows take which steps.
struct Call {
  Problem problem;
  int device;
  View lengths, resets;
};

struct ForwardArrays {
  int64_t layer, begin, end;
  std::vector<View> gates;       // of each direction: W x of the window, outer for layer 0
  std::vector<View> parameters;  // all of the stack
  View h;                        // out; the layer's outputs, outer for the last layer
  View initial[kMaxStates], final[kMaxStates];  // (L*D, B, H)
  // out, or not given: as tape_shapes() says, of `slot` in place of the layer, of the window alone.
  View states, saved;
  int64_t slot, every;
  bool remake;    // h is there already; only states and saved are wanted
  View entering;  // states of the tape with recompute, and which of its steps comes before `begin`
  int64_t entering_place;
  View carry[kMaxStates];  // stepwise: (D, B, H)
};

struct BackwardArrays {
  int64_t layer, begin, end;
  std::vector<View> parameters;
  View h, initial[kMaxStates];
  View states, saved;
  int64_t slot;
  View entering;
  int64_t entering_place;
  View dy;                   // outer for the last layer
  std::vector<View> dgates;  // out; of each direction (steps of the window, B, P*H)
  View dstate;               // in and out; (S, D, B, H), wide
  View dentry;               // out, zeros before; (D, B, G*H), or not given
  View dproduct;             // stepwise, out; (D, B, G*H)
};

ForwardPass forward_pass(const Stack& stack, const Call& call, const ForwardArrays& arrays);
BackwardPass backward_pass(const Stack& stack, const Call& call, const BackwardArrays& arrays);

// Whichever the tests or a user asked for; kBest otherwise.
Mode mode_in_use();
void use_mode(Mode mode);

Plan plan_of(const Stack& stack, const Call& call, bool backward);
Plan plan_of(const Stack& stack, int64_t T, int64_t B, int device, bool backward);

// Bytes of the memory that blocks meet in.
int64_t meeting_bytes(const Plan& plan);

// Launches a pass in the grid mode. meeting: meeting_bytes() of device memory.
void run(const Stack& stack, const Plan& plan, ForwardPass pass, void* meeting, void* stream);
void run(const Stack& stack, const Plan& plan, BackwardPass pass, void* meeting, void* stream);
// One scan step in the stepwise mode. product: (D, B, G*H), or backward (D, B, H), not looked at
// in the window's last step.
void run_step(const Stack& stack, const Plan& plan, ForwardPass pass, int64_t s,
              const View& product, void* stream);
void run_step(const Stack& stack, const Plan& plan, BackwardPass pass, int64_t s,
              const View& product, void* stream);

// Throws what a kernel of an earlier call has reported: once, or for a kernel that ended itself,
// after which the device serves this process no more, always.
void raise_reports(const std::string& op, int device);
// Waits for a stream and throws what its kernels have reported.
void synchronize_and_raise(const std::string& op, int device, void* stream);

}  // namespace gpu
}  // namespace fastrnn
