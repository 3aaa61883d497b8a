// The functions that a layer may choose for its cell, as plain data: see chosen.h.
#pragma once

namespace fastrnn {

enum class Function : int {
  kSigmoid,
  kTanh,
  kRelu,
  kSoftsign,
  kSoftplus,
  kAffine,
  kLeakyRelu,
  kThresholdedRelu,
  kScaledTanh,
  kHardSigmoid,
  kElu
};

struct Activation {
  Function function;
  double alpha, beta;
};

// What is chosen of a cell in one direction: plain data that a pass points to.
struct CellMaths {
  static constexpr int kGate = 0, kCandidate = 1, kOutput = 2, kPlaces = 3;
  Activation of[kPlaces];
  double clip;     // of what goes into the functions; infinity: none
  bool peepholes;  // has the cell any? Its kernel has, and is given zeros where it has none
  // Is a state clipped that a step has made, and to what? One of the two may be infinite.
  bool clips_state;
  double low, high;
};

}  // namespace fastrnn
