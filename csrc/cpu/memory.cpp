#include "memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>

namespace fastrnn {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int kSlots = 64;

// The address sanitizer must see every block come and go.
#if defined(FASTRNN_KEEP_NOTHING)
constexpr bool kKeep = false;
#else
constexpr bool kKeep = true;
#endif

// A kept block is in one slot or in one thread's hands: an exchange takes it out, another puts it
// in. No lock, which a child of fork() could find taken for ever. Its first bytes hold its size.
using Slot = std::atomic<char*>;
Slot slots[kSlots];
std::atomic<int64_t> kept_bytes{0};
std::atomic<unsigned> turn{0};  // whose block is given up next

int64_t& size_of(char* kept) { return *reinterpret_cast<int64_t*>(kept); }

// Sizes in steps of an eighth or less, so that calls of nearly the same size find each other's
// blocks.
int64_t size_class(int64_t bytes) {
  int64_t step = kLargeBlock / 8;
  while (step < bytes / 16) step *= 2;
  return (bytes + step - 1) / step * step;
}

char* from_system(int64_t bytes) {
  const bool huge = bytes >= 2 * kHugePage;
  const int64_t align = huge ? kHugePage : 64;
  const int64_t whole = (bytes + align - 1) / align * align;
  void* data = std::aligned_alloc(static_cast<size_t>(align), static_cast<size_t>(whole));
  if (data && huge) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return static_cast<char*>(data);
}

bool put(Slot& slot, char* kept) {
  char* empty = nullptr;
  return slot.compare_exchange_strong(empty, kept, std::memory_order_acq_rel);
}

bool put(char* kept) {
  for (Slot& slot : slots)
    if (!slot.load(std::memory_order_relaxed) && put(slot, kept)) return true;
  return false;
}

// Frees what the slot holds; returns its size.
int64_t empty(Slot& slot) {
  char* kept = slot.exchange(nullptr, std::memory_order_acq_rel);
  if (!kept) return 0;
  const int64_t bytes = size_of(kept);
  kept_bytes -= bytes;
  std::free(kept);
  return bytes;
}

// A block of this size class, from the pool or from the system; null if there is no memory.
char* acquire(int64_t bytes) {
  for (Slot& slot : slots) {
    if (!slot.load(std::memory_order_relaxed)) continue;
    char* kept = slot.exchange(nullptr, std::memory_order_acq_rel);
    if (kept && size_of(kept) == bytes) {
      kept_bytes -= bytes;
      return kept;
    }
    if (kept && !put(slot, kept) && !put(kept)) {
      kept_bytes -= size_of(kept);
      std::free(kept);
    }
  }
  char* data = from_system(bytes);
  if (!data && release_memory() > 0) data = from_system(bytes);
  return data;
}

void give_back(char* data, int64_t bytes) {
  if (!kKeep || bytes > kMaxKept) return std::free(data);
  // Counted before it is kept, so that threads at once do not each take what is left.
  size_of(data) = bytes;
  kept_bytes += bytes;
  // Others make room in turn: what is never asked for again goes sooner or later.
  for (int tries = 0; tries < kSlots && kept_bytes > kMaxKept; ++tries)
    empty(slots[turn++ % kSlots]);
  if (kept_bytes <= kMaxKept) {
    if (put(data)) return;
    empty(slots[turn++ % kSlots]);
    if (put(data)) return;
  }
  kept_bytes -= bytes;
  std::free(data);
}

}  // namespace

Block::Block(int64_t bytes, const std::string& op, const char* what) : bytes_(bytes) {
  if (bytes == 0) return;
  const bool large = bytes >= kLargeBlock;
  if (large) bytes_ = size_class(bytes);
  data_ = large ? acquire(bytes_) : from_system(bytes);
  if (!data_)
    throw Error(Fault::kMemory, op,
                std::string("memory for the ") + what + " must be available, got none for " +
                    std::to_string(bytes) + " bytes");
}

Block::~Block() {
  if (bytes_ >= kLargeBlock)
    give_back(data_, bytes_);
  else
    std::free(data_);
}

int64_t release_memory() {
  int64_t bytes = 0;
  for (Slot& slot : slots) bytes += empty(slot);
  return bytes;
}

}  // namespace fastrnn
