// The host's side of the grid mode (grid.cuh): one launch for all steps of a window. Each way for
// blocks to exchange what they have made is a mode of its own, so that a user and tests can ask for
// it.
#pragma once

#include "mode.h"

namespace fastrnn {
namespace gpu {

class GridMode : public Mode {
 public:
  GridMode(ExchangeWay way, const char* name, const char* limits)
      : way_(way), name_(name), limits_(limits) {}
  const char* name() const override { return name_; }
  const char* limits() const override { return limits_; }
  Plan plan(const Work& work) const override;
  // The counters of the groups' barriers, and what they exchange.
  std::vector<Request> memory(const Work& work, const Plan& plan) const override;
  void run(const Site& site, ForwardPass pass) const override;
  void run(const Site& site, BackwardPass pass) const override;

 private:
  ExchangeWay way_;
  const char *name_, *limits_;
};

}  // namespace gpu
}  // namespace fastrnn
