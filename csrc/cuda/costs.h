// The numbers of the models that plans are chosen by: microseconds, and rates of one SM in each
// cycle, by compute capability.
//
// Those of 9.0 were measured by bench/gpu.sh on an H200, but for what is assumed by its comment,
// with the kernels before tensor cores, flags and clusters. Those of all other capabilities are
// assumed: what their hardware could do by public facts, times the share that the H200 reached.
//
//   fused           by the throughput of arithmetic instructions in the CUDA programming guide: 64
//                   on 7.5 and 8.0, 128 elsewhere, of which 110 were measured
//   tensor_fused    by data sheets: TFLOP/s with sums in float32, without sparsity, by SMs and
//                   clock; of 8.6 and 8.9 the GeForce cards', half of A10's and L4's. 9.0 and 10.0
//                   reach theirs by other instructions than mma.sync: half of 9.0's 2048 for both
//   shared_bytes    by the programming guide's 32 banks of 4 bytes, of which 118 were measured;
//                   half on 7.5, by the white paper of GA102
//   streamed_bytes  by the white paper of A100: L2 gives 5120 to all SMs, of which 9.0 was seen to
//                   use half; others as 9.0
//   library_fused   98 of 128 were measured, and 1420 of 2048 in 16 bits; as much of the peaks
//                   above elsewhere
#pragma once

#include "device.h"

namespace fastrnn {
namespace gpu {

struct Costs {
  int capability;           // from this one on, times 10
  double fused;             // multiply-adds
  double tensor_fused;      // of tensor cores in 16 bits, half as many as TF32. Assumed everywhere
  double shared_bytes;      // from shared memory
  double streamed_bytes;    // weights from L2 or memory
  double library_fused;     // multiply-adds of a library's product
  double library_fused_16;  // in 16 bits, by tensor cores

  // Of all capabilities, until another card is asked. `tile` and `slowdown` are fitted to the times
  // of 104 cases, which the model then gave within 20 % for nine in ten.
  double barrier = 0.661;              // of a group of blocks
  double barrier_per_block = 0.00235;  // for each block of it
  double flags = 0.3;     // of an exchange by flagged words, beyond their staging: assumed
  double cluster = 0.8;   // of an exchange in a cluster: assumed
  double tile = 2.1;      // latency of a tile: its rows are staged, multiplied, and finished
  double staging = 0.7;   // of that, the loads of a staging: assumed
  double launch = 3.65;   // of a kernel, back to back
  double issue = 32;      // of a step's product and launch in a direction, by the thread of Python
  double graph = 300;     // of recording a step and making a graph of many: assumed
  double slowdown = 2.6;  // of the kernel's product, against the rates of arithmetic and memory
};

// Ascending by capability, with a card of each; columns as above.
constexpr Costs kCosts[] = {
    {75, 55, 512, 59, 19.1, 49, 355},       // T4
    {80, 55, 1024, 118, 23, 49, 710},       // A100
    {86, 110, 256, 118, 19.1, 98, 177},     // RTX 3090
    {89, 110, 256, 118, 19.1, 98, 177},     // RTX 4090
    {90, 110, 1024, 118, 19.1, 98, 1420},   // H200
    {100, 110, 1024, 118, 19.1, 98, 2840},  // B200
    {120, 110, 256, 118, 19.1, 98, 177},    // RTX 5090
};

// A capability between two rows has the lower one's, and one before all the first's.
inline const Costs& costs_of(const Device& device) {
  const Costs* found = kCosts;
  for (const Costs& costs : kCosts)
    if (costs.capability <= 10 * device.major + device.minor) found = &costs;
  return *found;
}

}  // namespace gpu
}  // namespace fastrnn
