#include "device_errors.h"

#include "device.h"

namespace fastrnn {
namespace gpu {

void raise_abandoned(const std::string& op, const Report* report) {
  const char* name = __atomic_load_n(&report->abandoned, __ATOMIC_ACQUIRE);
  if (!name) return;
  throw Error(Fault::kRuntime, op,
              std::string("the blocks of a kernel must all come to a meeting, got ") + name +
                  ", where some did not: it has ended itself, and with it this process's CUDA "
                  "context, which only a new process can replace");
}

void raise_reports(const std::string& op, int index) {
  Report* report = reports(index);
  raise_abandoned(op, report);
  // -1 while a kernel writes the rest: then the next call tells.
  if (__atomic_load_n(&report->code, __ATOMIC_ACQUIRE) != kLengthOutside) return;
  const std::string got = std::to_string(report->value) + " for row " +
                          std::to_string(report->row) +
                          " (found by a kernel; that call's results are of the nearest length)";
  __atomic_store_n(&report->code, kNothing, __ATOMIC_RELEASE);
  throw Error(Fault::kValue, op, "lengths must be within 0..T, got " + got);
}

void synchronize_and_raise(const std::string& op, int index, void* stream) {
  const OnDevice here(op, index);
  with_reason(op, reports(index), [&] { synchronize(op, stream); });
  raise_reports(op, index);
}

}  // namespace gpu
}  // namespace fastrnn
