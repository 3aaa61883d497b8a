// Memory that lives as long as a call.
#pragma once

#include <stdint.h>

#include <memory_resource>
#include <string>
#include <vector>

#include "memory.h"

namespace fastrnn {

// Lists, and the workspace of a small call, come from the stack: a call for one step of a small
// layer would spend a good part of its time in malloc.
class CallMemory {
 public:
  std::pmr::memory_resource* lists() { return &memory_; }

  char* workspace(int64_t bytes, const std::string& op) {
    if (bytes <= kSmall)
      return static_cast<char*>(memory_.allocate(static_cast<size_t>(bytes), kCacheLine));
    large_ = Block(bytes, op, "workspace");
    return large_.data();
  }

 private:
  static constexpr int64_t kSmall = 8192;
  alignas(kCacheLine) char stack_[3 * kSmall];
  std::pmr::monotonic_buffer_resource memory_{stack_, sizeof stack_};
  Block large_;
};
template <class T> using List = std::pmr::vector<T>;

}  // namespace fastrnn
