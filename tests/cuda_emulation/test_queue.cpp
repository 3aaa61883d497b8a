// That the emulated device's queue shows what it is there to show: little programs of a host, each
// in its right form and with one mistake, for which a device that runs work as it comes is blind.
#include <cstdio>
#include <functional>
#include <string>

#include "core/error.h"
#include "cuda/device.h"
#include "device_emulated.h"
#include "queue.h"

namespace {

using namespace fastrnn;
using emulation::Schedule;

int failures = 0;

void fail(const std::string& what) {
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

// ---- kernels, and their launches on a stream ----------------------------------------------------

struct Pass {
  float factor;
};
void multiply(float* x, Pass pass) { *x *= pass.factor; }
void multiply_from(float* x, const Pass* pass) { *x *= pass->factor; }
void set(float* x, float value) { *x = value; }
void give_up() { emulation::trap(); }

void* stream(uintptr_t number) { return reinterpret_cast<void*>(number); }
gpu::Launch on(uintptr_t number) { return {1, 1, 0, false, stream(number)}; }
void copy_on(uintptr_t number, float* to, const float* from) {
  gpu::copy("test", to, from, sizeof *to, stream(number));
}

// A frame of the stack that is gone when the kernel runs, and one that comes to lie there.
__attribute__((noinline)) void launch_from_a_frame(float* x, const Pass* pass, bool by_pointer) {
  if (by_pointer)
    gpu::launch<float*, const Pass*>("test", on(1), multiply_from, x, pass);
  else
    gpu::launch<float*, Pass>("test", on(1), multiply, x, *pass);
}
__attribute__((noinline)) void overwrite_frames() {
  volatile char frame[4096];
  for (volatile char& byte : frame) byte = 0x55;
}

// ---- programs -----------------------------------------------------------------------------------

// Each gives 6, or something else where the mistake is seen.
using Program = std::function<float(bool mistaken)>;

float arguments_by_value(bool by_pointer) {
  float x = 2;
  Pass pass{3};
  launch_from_a_frame(&x, &pass, by_pointer);
  pass.factor = 5;
  overwrite_frames();
  emulation::synchronize(1);
  return x;
}

float one_stream(bool two) {
  float x = 1, y = 0;
  gpu::launch<float*, float>("test", on(1), set, &x, 6);
  copy_on(two ? 2 : 1, &y, &x);
  emulation::synchronize_all();
  return y;
}

float an_event_between_streams(bool forgotten) {
  float x = 1, y = 0;
  for (const uintptr_t first : {1, 2}) {
    const uintptr_t second = 3 - first;
    gpu::launch<float*, float>("test", on(first), set, &x, 6);
    const int event = emulation::record(first);
    if (!forgotten) emulation::wait(second, event);
    copy_on(second, &y, &x);
    emulation::synchronize(second);
    if (y != 6) return y;
    emulation::synchronize_all();
    x = y = 0;
  }
  return 6;
}

float a_buffer_of_the_host(bool changed_early) {
  float host = 6, x = 0;
  copy_on(1, &x, &host);
  if (changed_early) host = 0;
  emulation::synchronize(1);
  host = 0;
  return x;
}

float a_result_that_is_awaited(bool of_another_stream) {
  float x = 1;
  gpu::zero("test", &x, sizeof x, stream(1));
  gpu::launch<float*, float>("test", on(1), set, &x, 6);
  gpu::synchronize("test", stream(of_another_stream ? 2 : 1));
  const float found = x;
  emulation::synchronize_all();
  return found;
}

const Schedule kOrders[] = {Schedule::kForward, Schedule::kReverse, Schedule::kRandom};

void expect(const char* what, const Program& program) {
  bool seen = false;
  for (const Schedule order : kOrders) {
    emulation::queue_work(order, 1);
    if (program(false) != 6) fail(std::string(what) + ": the right program gives a wrong number");
    seen |= program(true) != 6;
    emulation::run_at_once();
    if (program(true) != 6) fail(std::string(what) + ": it is seen without the queue too");
  }
  if (!seen) fail(std::string(what) + ": the mistake is not seen");
}

// A kernel that ends itself is an error of whoever waits, and of no launch before.
void expect_a_trap_where_it_is_awaited() {
  emulation::queue_work(Schedule::kForward, 1);
  float x = 1;
  gpu::launch("test", on(1), give_up);
  gpu::launch<float*, float>("test", on(1), set, &x, 6);
  try {
    gpu::synchronize("test", stream(1));
    fail("a trap that nobody learns of");
  } catch (const Error&) {
    if (x != 1) fail("a kernel that runs on a lost device");
  }
  emulation::use_device(8, 227 << 10, true, 1.7);
  emulation::run_at_once();
}

}  // namespace

int main() {
  expect("arguments that lived on the stack", arguments_by_value);
  expect("a launch on another stream", one_stream);
  expect("two streams without an order", an_event_between_streams);
  expect("a buffer of the host that changes too early", a_buffer_of_the_host);
  expect("a wait for another stream", a_result_that_is_awaited);
  expect_a_trap_where_it_is_awaited();
  return failures ? 1 : 0;
}
