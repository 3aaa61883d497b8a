#include "device_errors.h"

#include "device.h"

namespace fastrnn {
namespace gpu {

void raise_abandoned(const std::string& op, const DeviceError* error) {
  const char* name = __atomic_load_n(&error->abandoned, __ATOMIC_ACQUIRE);
  if (!name) return;
  throw Error(Fault::kRuntime, op,
              std::string("the blocks of a kernel must all arrive at a barrier, got ") + name +
                  ", where some did not: it has ended itself, and with it this process's CUDA "
                  "context, which only a new process can replace");
}

void raise_device_errors(const std::string& op, int index) {
  DeviceError* error = device_error(index);
  raise_abandoned(op, error);
  // -1 while a kernel writes the rest: then the next call tells.
  if (__atomic_load_n(&error->code, __ATOMIC_ACQUIRE) != kLengthOutside) return;
  const std::string got = std::to_string(error->value) + " for row " + std::to_string(error->row) +
                          " (found by a kernel; that call's results are of the nearest length)";
  __atomic_store_n(&error->code, kNoError, __ATOMIC_RELEASE);
  throw Error(Fault::kValue, op, "lengths must be within 0..T, got " + got);
}

void synchronize_and_raise(const std::string& op, int index, void* stream) {
  const OnDevice here(op, index);
  with_reason(op, device_error(index), [&] { synchronize(op, stream); });
  raise_device_errors(op, index);
}

}  // namespace gpu
}  // namespace fastrnn
