// The numbers of the models that plans are chosen by: microseconds, and rates of one SM in each
// cycle, by compute capability.
//
// Measured: all of 9.0 that does not say otherwise, by bench/gpu.sh on an H200, with the kernels
// before tensor cores, flags and clusters. Rows of other capabilities are assumed: the H200's share
// of what the hardware could do (H), times what their hardware could do by public facts:
//
//   fused          the CUDA programming guide's throughput of arithmetic instructions: 64 or 128
//                  in float32. (H: 110 of 128)
//   tensor_fused   data sheets: TFLOP/s without sparsity, with sums in float32, by SMs and clock;
//                  of 8.6 and 8.9 those of GeForce cards, half of A10's and L4's. mma.sync is taken
//                  to reach it but on 9.0 and 10.0, whose peaks of 2048 and 4096 need other
//                  instructions: about 60 % there by arXiv:2402.13499, of which 9.0's 1024 is less
//   shared_bytes   32 banks of 4 bytes, by the programming guide; of 7.5, whose SM has 16 load
//                  units by its white paper, half. (H: 118 of 128)
//   streamed_bytes L2's bytes a cycle for all SMs: 5120 by A100's white paper, and 20 for an SM of
//                  a T4 by arXiv:1903.07486. (H: half of 5120, for 132 SMs)
//   library_*      H of the peaks above: 98 of 128 and 1420 of 2048
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

// Ascending by capability.
constexpr Costs kCosts[] = {
    {75, 55, 512, 59, 20, 49, 355},         // T4
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
