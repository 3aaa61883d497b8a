// The numbers of the models that plans are chosen by.
#pragma once

namespace fastrnn {
namespace gpu {

// Microseconds, and rates of one SM in each cycle. As bench/gpu.sh measured them on an H200; other
// cards are taken to be like it. `tile` and `slowdown` are fitted to the times of 104 cases there,
// which the model then gives within 20 % for nine in ten.
struct Costs {
  double barrier = 0.661;              // of a group of blocks
  double barrier_per_block = 0.00235;  // for each block of it
  double flags = 0.3;    // of an exchange by flagged words, beyond their staging: assumed
  double cluster = 0.8;  // of an exchange in a cluster: assumed
  double tile = 2.1;     // latency of a tile: its rows are staged, multiplied, and finished
  double staging = 0.7;  // of that, the loads of a staging: assumed
  double launch = 3.65;  // of a kernel, back to back
  double issue = 32;     // of a step's product and launch in a direction, by the thread of Python
  double graph = 300;  // of recording a step and making a graph of many. Assumed: no card was asked
  double fused = 110;  // multiply-adds
  double tensor_fused = 1024;      // multiply-adds of tensor cores in a kernel: assumed
  double shared_bytes = 118;       // from shared memory
  double slowdown = 2.6;           // of the kernel's product, against these two rates
  double streamed_bytes = 19.1;    // weights of a library's product, from L2 or memory
  double library_fused = 98;       // multiply-adds of a library's product
  double library_fused_16 = 1420;  // in 16 bits, by tensor cores
};
constexpr Costs kCosts;

}  // namespace gpu
}  // namespace fastrnn
