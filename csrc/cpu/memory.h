// Aligned blocks of memory that free themselves, and the pool that large ones go back to.
//
// A training step asks for the same large blocks again and again: packed weights, workspace, tape,
// gradients. Fresh from the system each of their pages costs a fault and is cleared; that is more
// than the arithmetic of a step with one row. So large blocks are kept for the next call, at most
// kMaxKept bytes of them.
#pragma once

#include <stdint.h>

#include <string>
#include <utility>

#include "../core/error.h"

namespace fastrnn {

constexpr int64_t kCacheLine = 64;
// Bytes rounded up to cache lines.
inline int64_t whole_lines(int64_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

class Block {
 public:
  Block() = default;
  // Throws Error(kMemory); op and what name the need.
  Block(int64_t bytes, const std::string& op, const char* what);
  Block(Block&& other) noexcept { *this = static_cast<Block&&>(other); }
  Block& operator=(Block&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Block();

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Blocks of fewer bytes come from malloc, which is quick about them.
constexpr int64_t kLargeBlock = int64_t{256} << 10;
constexpr int64_t kMaxKept = int64_t{512} << 20;

// Gives what the pool keeps back to the system; returns how many bytes.
int64_t release_memory();

}  // namespace fastrnn
