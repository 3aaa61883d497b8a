#include "cpuid.h"

#include <unistd.h>

#include "arch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastrnn {

namespace {

#if defined(__x86_64__)
#define CPU_HAS(feature) (__builtin_cpu_supports(#feature) != 0)

// clang 14 has no name for it in __builtin_cpu_supports.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

// runs_<level>(): its probe.
#define FASTRNN_LEVEL(name, architecture, use, bytes, registers, elements, flags, probe) \
  FASTRNN_ON_##architecture(bool runs_##name() { return probe; })
#include "../simd/levels.def"
#undef FASTRNN_LEVEL

}  // namespace

const std::vector<Level>& levels() {
  static const std::vector<Level> rows = {
#define FASTRNN_LEVEL(name, architecture, use, bytes, registers, elements, flags, probe) \
  FASTRNN_ON_##architecture({#name, runs_##name()}, )
#include "../simd/levels.def"
#undef FASTRNN_LEVEL
  };
  return rows;
}

const Caches& caches() {
  static const Caches found = [] {
    const auto ask = [](int name, int64_t usual) {
      const long bytes = sysconf(name);
      return bytes > 0 ? static_cast<int64_t>(bytes) : usual;
    };
    return Caches{ask(_SC_LEVEL1_DCACHE_SIZE, 32 << 10), ask(_SC_LEVEL2_CACHE_SIZE, 512 << 10),
                  ask(_SC_LEVEL3_CACHE_SIZE, 8 << 20)};
  }();
  return found;
}

}  // namespace fastrnn
