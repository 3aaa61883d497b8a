#include "cpuid.h"

#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastrnn {

#if defined(__x86_64__)
namespace {

// clang 14 has no name for it in __builtin_cpu_supports.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

}  // namespace
#endif

bool cpu_has(const std::string& level) {
  if (level == "scalar") return true;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (level == "avx2" || level == "wide") return avx2;
  if (level == "avx512")
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return false;
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
