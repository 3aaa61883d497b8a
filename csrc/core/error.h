// The exceptions of the engine. Text: "[op] rule, got value".
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace fastrnn {

enum class Fault { kValue, kRank, kType, kNotImplemented, kMemory, kRuntime };

class Error : public std::exception {
 public:
  Error(Fault fault, const std::string& op, const std::string& text)
      : fault_(fault), text_("[" + op + "] " + text) {}
  Fault fault() const { return fault_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  Fault fault_;
  std::string text_;
};

// The caller asked for the end of a running call: see set_poll() in cpu/team.h.
struct Interrupted {};

}  // namespace fastrnn
