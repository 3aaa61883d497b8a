// Aligned blocks of memory that free themselves.
#pragma once

#include <stdint.h>

#include <cstdlib>
#include <string>

#include "../core/error.h"

namespace fastrnn {

// Bytes rounded up to cache lines.
inline int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

class Block {
 public:
  Block() = default;
  // Throws Error(kMemory); op and what name the need.
  Block(int64_t bytes, const std::string& op, const char* what) : bytes_(bytes) {
    if (bytes == 0) return;
    data_ = static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(whole_lines(bytes))));
    if (!data_)
      throw Error(Fault::kMemory, op,
                  std::string("memory for the ") + what + " must be available, got none for " +
                      std::to_string(bytes) + " bytes");
  }
  Block(Block&& other) noexcept { *this = static_cast<Block&&>(other); }
  Block& operator=(Block&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Block() { std::free(data_); }

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace fastrnn
