#include "emulator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(FASTRNN_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif
#if defined(FASTRNN_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace fastrnn {
namespace emulation {

namespace {

constexpr int kLanes = 32;
#if defined(FASTRNN_ASAN) || defined(FASTRNN_TSAN)
constexpr size_t kStackBytes = 64 << 10;
#else
constexpr size_t kStackBytes = 32 << 10;
#endif

// While it lives, what this fiber does is the emulator's own business, none of the kernel's. (The
// emulator is not instrumented, but the C++ library that it calls is watched.)
struct Unwatched {
#if defined(FASTRNN_TSAN)
  Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() { end(); }
  static void end() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Unwatched() {}
#endif
};

// ---- one fiber and the way to another -----------------------------------------------------------

#if defined(__x86_64__)
// Saves what a call must keep, on the stack, and goes on where `to` once did the same.
extern "C" void fastrnn_switch_stack(void** from, void* to);
asm(R"(
.text
.type fastrnn_switch_stack, @function
fastrnn_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fastrnn_switch_stack, . - fastrnn_switch_stack
)");

struct Context {
  void* top = nullptr;
  void prepare(char* stack, size_t bytes, void (*entry)()) {
    auto** p = reinterpret_cast<void**>(stack + bytes);
    *--p = nullptr;  // so that the stack is aligned where `entry` begins, as after a call
    *--p = reinterpret_cast<void*>(entry);
    p -= 6;
    std::fill_n(p, 6, nullptr);
    top = p;
  }
  void go_to(Context& other) { fastrnn_switch_stack(&top, other.top); }
};
#else
struct Context {
  ucontext_t context;
  void prepare(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  void go_to(Context& other) { swapcontext(&context, &other.context); }
};
#endif

// Where threads wait for each other: a block or cluster at a barrier, a warp where its lanes work
// together. The two sides of `messages` serve rounds in turns, so that a quick thread does not
// overwrite what others still read.
struct Barrier {
  const char* group = nullptr;  // whose it is, for messages
  int size = 0, arrived = 0;
  unsigned round = 0;
  const char* name = nullptr;
  std::vector<int> waiting;
  alignas(8) char messages[2][kLanes * kMessageBytes];
  char sides[2];  // addresses for ThreadSanitizer
};

// Those of all groups of a kind.
class Barriers {
 public:
  Barriers(const char* group, int count, int size) : all_(static_cast<size_t>(count)) {
    for (Barrier& each : all_) {
      each.group = group;
      each.size = size;
    }
  }
  Barrier* at(int index) { return &all_[static_cast<size_t>(index)]; }

 private:
  std::vector<Barrier> all_;
};

struct BlockState {
  std::unique_ptr<char[]> shared;
  bool begun = false;
  int live = 0;  // threads
};

struct Fiber {
  Context context;
  ThreadContext thread;
  Barrier *warp, *block, *cluster;
  const char* at = nullptr;  // where it waits
  bool suspended = false;    // in the emulator, unwatched
  void* tsan = nullptr;
  void* fake_stack = nullptr;
  char* stack = nullptr;
};

struct Stacks {
  char* base = nullptr;
  size_t count = 0;
  char* reserve(size_t n) {
    if (n > count) {
      if (base) munmap(base, count * kStackBytes);
      void* p = mmap(nullptr, n * kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) throw std::bad_alloc();
      base = static_cast<char*>(p);
      count = n;
    }
    return base;
  }
  // After a launch. A fiber's first frames never return, and AddressSanitizer would know of them
  // even when their memory has gone back to the system and is somebody else's.
  void forget_frames([[maybe_unused]] size_t fibers) {
#if defined(FASTRNN_ASAN)
    __asan_unpoison_memory_region(base, fibers * kStackBytes);
#endif
  }
};

// ---- the launch in progress ---------------------------------------------------------------------

struct Settings {
  Schedule schedule = Schedule::kForward;
  uint64_t seed = 0;
  std::string removed;
  std::set<std::string> executed;
  int arrivals_until_lost = -1;  // below 0: none is
} settings;

std::mutex one_at_a_time;
Stacks stacks;

struct Launch {
  const std::function<void()>* kernel;
  uintptr_t shared_bytes;
  std::vector<Fiber> fibers;
  std::vector<int> ready, paused;
  size_t next = 0;  // in `ready`, where it is served in order
  std::mt19937_64 random;
  Context scheduler;
  void* scheduler_tsan = nullptr;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;
  std::vector<BlockState> blocks;
  int current = -1, live = 0;
  bool moved = false;  // has anything but spinning happened since `paused` was emptied?
  std::string error;
  bool trapped = false;
};
Launch* launch_ = nullptr;

Fiber& self() { return launch_->fibers[static_cast<size_t>(launch_->current)]; }

void switch_to_scheduler(bool for_good) {
  Fiber& fiber = self();
#if defined(FASTRNN_TSAN)
  __tsan_switch_to_fiber(launch_->scheduler_tsan, 1);  // 1: orders nothing
#endif
#if defined(FASTRNN_ASAN)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, launch_->scheduler_stack,
                                 launch_->scheduler_stack_bytes);
#endif
  fiber.suspended = !for_good;
  fiber.context.go_to(launch_->scheduler);
  fiber.suspended = false;
#if defined(FASTRNN_ASAN)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
}

void run(int index) {
  launch_->current = index;
  Fiber& fiber = self();
#if defined(FASTRNN_TSAN)
  __tsan_switch_to_fiber(fiber.tsan, 1);
#endif
#if defined(FASTRNN_ASAN)
  __sanitizer_start_switch_fiber(&launch_->scheduler_fake_stack, fiber.stack, kStackBytes);
#endif
  launch_->scheduler.go_to(fiber.context);
#if defined(FASTRNN_ASAN)
  __sanitizer_finish_switch_fiber(launch_->scheduler_fake_stack, nullptr, nullptr);
#endif
}

// The launch ends with the first error, when the fiber goes back to the scheduler.
void note(const std::string& error) {
  if (launch_->error.empty()) launch_->error = error;
}

// Ends the launch here and now: what is on this stack is never freed.
void fail(const char* error) {
  note(error);
  switch_to_scheduler(false);
}

BlockState& block_of(const Fiber& fiber) {
  return launch_->blocks[static_cast<size_t>(fiber.thread.block)];
}

void fiber_main() {
#if defined(FASTRNN_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &launch_->scheduler_stack,
                                  &launch_->scheduler_stack_bytes);
#endif
  block_of(self()).begun = true;
  (*launch_->kernel)();
  {
    const Unwatched unwatched;
    Fiber& fiber = self();
    for (const Barrier* barrier : {fiber.warp, fiber.block, fiber.cluster})
      if (barrier->arrived > 0)
        note(std::string("a thread has ended while others of its ") + barrier->group +
             " wait at '" + barrier->name + "'");
    fiber.at = "the end";
    --block_of(fiber).live;
    --launch_->live;
    launch_->moved = true;
  }
  switch_to_scheduler(true);
}

// Waits until all threads have come to the barrier.
void wait_at(Barrier& barrier, const char* name) {
  Launch& launch = *launch_;
  if (barrier.arrived > 0 && std::strcmp(barrier.name, name) != 0)
    note(std::string("threads of one ") + barrier.group + " wait at '" + barrier.name +
         "' and at '" + name + "'");
  barrier.name = name;
  launch.moved = true;
  if (++barrier.arrived < barrier.size) {
    self().at = name;
    barrier.waiting.push_back(launch.current);
    switch_to_scheduler(false);
  } else {
    barrier.arrived = 0;
    ++barrier.round;
    launch.ready.insert(launch.ready.end(), barrier.waiting.begin(), barrier.waiting.end());
    barrier.waiting.clear();
    // The last to come has no right to go on first.
    launch.ready.push_back(launch.current);
    switch_to_scheduler(false);
  }
}

bool removed(const char* name) {
  settings.executed.insert(name);
  return settings.removed == name;
}

// Of what others wait for: whether this is not the one that a test loses.
bool is_not_lost() {
  launch_->moved = true;
  return settings.arrivals_until_lost < 0 || settings.arrivals_until_lost-- > 0;
}

// All threads of a block or cluster.
void sync(Barrier& barrier, const char* name) {
  const Unwatched unwatched;
  if (removed(name)) return;
#if defined(FASTRNN_TSAN)
  char* side = &barrier.sides[barrier.round % 2];
  __tsan_release(side);
#endif
  wait_at(barrier, name);
#if defined(FASTRNN_TSAN)
  __tsan_acquire(side);
#endif
}

int take_next(Launch& launch) {
  std::vector<int>& ready = launch.ready;
  int index;
  switch (settings.schedule) {
    case Schedule::kForward:
      index = ready[launch.next++];
      if (launch.next > 4096 && 2 * launch.next > ready.size()) {
        ready.erase(ready.begin(), ready.begin() + static_cast<std::ptrdiff_t>(launch.next));
        launch.next = 0;
      }
      return index;
    case Schedule::kReverse: break;
    case Schedule::kRandom: std::swap(ready[launch.random() % ready.size()], ready.back());
  }
  index = ready.back();
  ready.pop_back();
  return index;
}

std::string where_all_wait(const Launch& launch) {
  std::set<std::string> places;
  for (const Fiber& fiber : launch.fibers) places.insert(fiber.at ? fiber.at : "the start");
  std::string text;
  for (const std::string& each : places) text += (text.empty() ? "" : ", ") + each;
  return text;
}

void schedule(Launch& launch) {
  constexpr int kRounds = 100;  // of spinning alone, until it is called a deadlock
  int idle = 0;
  while (launch.live > 0 && launch.error.empty()) {
    if (launch.next < launch.ready.size()) {
      run(take_next(launch));
      continue;
    }
    launch.ready.clear();
    launch.next = 0;
    idle = launch.moved ? 0 : idle + 1;
    launch.moved = false;
    if (launch.paused.empty() || idle > kRounds) {
      launch.error = "no thread can go on; they wait at: " + where_all_wait(launch);
      return;
    }
    launch.ready.swap(launch.paused);
  }
}

}  // namespace

void use_schedule(Schedule schedule, uint64_t seed) {
  settings.schedule = schedule;
  settings.seed = seed;
}

void remove(const std::string& primitive) { settings.removed = primitive; }
void lose_arrival(int after) { settings.arrivals_until_lost = after; }

std::vector<std::string> executed() { return {settings.executed.begin(), settings.executed.end()}; }

void launch(const std::function<void()>& kernel, int blocks, int threads, int64_t shared_bytes,
            int cluster_blocks) {
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  if (blocks % cluster_blocks != 0)
    throw std::runtime_error("blocks must make whole clusters of " +
                             std::to_string(cluster_blocks) + ", got " + std::to_string(blocks));
  Launch launch;
  launch.kernel = &kernel;
  launch.shared_bytes = static_cast<uintptr_t>(shared_bytes);
  launch.random.seed(settings.seed);
  const size_t count = static_cast<size_t>(blocks) * static_cast<size_t>(threads);
  launch.fibers.resize(count);
  launch.live = static_cast<int>(count);
  char* stack = stacks.reserve(count);
  const int warps = (threads + kLanes - 1) / kLanes;
  Barriers warp_barriers("block", blocks * warps, kLanes);
  const int lanes_of_last = threads - (warps - 1) * kLanes;
  for (int b = 0; b < blocks; ++b) warp_barriers.at((b + 1) * warps - 1)->size = lanes_of_last;
  Barriers block_barriers("block", blocks, threads);
  Barriers cluster_barriers("cluster", blocks / cluster_blocks, cluster_blocks * threads);
  launch.blocks.resize(static_cast<size_t>(blocks));
  for (BlockState& block : launch.blocks) {
    block.live = threads;
    block.shared.reset(new char[static_cast<size_t>(shared_bytes)]);
    std::memset(block.shared.get(), 0xff, static_cast<size_t>(shared_bytes));  // NaN in any type
  }
  for (size_t i = 0; i < count; ++i) {
    Fiber& fiber = launch.fibers[i];
    const int b = static_cast<int>(i) / threads, t = static_cast<int>(i) % threads;
    char* shared = launch.blocks[static_cast<size_t>(b)].shared.get();
    fiber.thread = {t, threads, b, blocks, cluster_blocks, shared};
    fiber.warp = warp_barriers.at(b * warps + t / kLanes);
    fiber.block = block_barriers.at(b);
    fiber.cluster = cluster_barriers.at(b / cluster_blocks);
    fiber.stack = stack + i * kStackBytes;
    fiber.context.prepare(fiber.stack, kStackBytes, fiber_main);
#if defined(FASTRNN_TSAN)
    fiber.tsan = __tsan_create_fiber(0);
#endif
    launch.ready.push_back(static_cast<int>(i));
  }
#if defined(FASTRNN_TSAN)
  launch.scheduler_tsan = __tsan_get_current_fiber();
#endif
  launch_ = &launch;
  schedule(launch);
  launch_ = nullptr;
  stacks.forget_frames(count);
#if defined(FASTRNN_TSAN)
  for (Fiber& fiber : launch.fibers) {
    // The host may read what the kernel wrote: launches are in order.
    __tsan_switch_to_fiber(fiber.tsan, 1);
    if (fiber.suspended) Unwatched::end();  // the launch has failed
    __tsan_release(&launch);
    __tsan_switch_to_fiber(launch.scheduler_tsan, 1);
    __tsan_destroy_fiber(fiber.tsan);
  }
  __tsan_acquire(&launch);
#endif
  if (launch.trapped) throw Trapped(launch.error);
  if (!launch.error.empty()) throw std::runtime_error(launch.error);
}

const ThreadContext& this_thread() { return self().thread; }

void sync_block(const char* name) { sync(*self().block, name); }
void sync_cluster(const char* name) { sync(*self().cluster, name); }

void* in_cluster(void* own, int rank) {
  const Unwatched unwatched;
  const ThreadContext& thread = self().thread;
  const auto at = reinterpret_cast<uintptr_t>(own) - reinterpret_cast<uintptr_t>(thread.shared);
  if (at >= launch_->shared_bytes || rank < 0 || rank >= thread.cluster_blocks)
    fail("a place must be in the cluster's shared memory, got another");
  const int first = thread.block / thread.cluster_blocks * thread.cluster_blocks;
  const BlockState& there = launch_->blocks[static_cast<size_t>(first + rank)];
  if (!there.begun || there.live == 0)
    fail("a block must be running when another reaches into it, got one that is not");
  return there.shared.get() + at;
}

const void* exchange(const void* message, size_t bytes, const char* name) {
  const Unwatched unwatched;
  Fiber& fiber = self();
  Barrier& barrier = *fiber.warp;
  char* messages = barrier.messages[barrier.round % 2];
  std::memcpy(messages + static_cast<size_t>(fiber.thread.thread % kLanes) * bytes, message, bytes);
  wait_at(barrier, name);
  return messages;
}

void check_row(const void* row, const char* name) {
  constexpr uintptr_t kRowBytes = 16;
  const Unwatched unwatched;
  const auto begin = reinterpret_cast<uintptr_t>(self().thread.shared);
  const auto at = reinterpret_cast<uintptr_t>(row);
  const bool inside = at >= begin && at + kRowBytes <= begin + launch_->shared_bytes;
  if (inside && at % kRowBytes == 0) return;
  note(std::string("rows must be 16 aligned bytes of shared memory, got others at '") + name + "'");
  switch_to_scheduler(false);  // which leaves no string behind on this stack
}

bool takes_place(const char* name) {
  const Unwatched unwatched;
  const bool is_there = !removed(name);
  return is_not_lost() && is_there;
}

bool looks_in_order(const char* name) {
  const Unwatched unwatched;
  self().at = name;
  return !removed(name);
}

bool arrives([[maybe_unused]] void* word, const char* name) {
  const Unwatched unwatched;
  [[maybe_unused]] const bool ordered = !removed(name);
#if defined(FASTRNN_TSAN)
  if (ordered) __tsan_release(word);
#endif
  return is_not_lost();
}

void acquire([[maybe_unused]] const void* word) {
#if defined(FASTRNN_TSAN)
  __tsan_acquire(const_cast<void*>(word));
#endif
}

void arrive(unsigned* counter, const char* name) {
  if (arrives(counter, name)) ++*counter;
}

unsigned load_acquire(const unsigned* counter, const char* name) {
  if (looks_in_order(name)) acquire(counter);
  return *counter;
}

void pause() {
  const Unwatched unwatched;
  launch_->paused.push_back(launch_->current);
  switch_to_scheduler(false);
}

void trap() {
  const Unwatched unwatched;
  launch_->trapped = true;
  fail("a thread has trapped");
}

}  // namespace emulation
}  // namespace fastrnn
