// The C++ tests' only tool: EXPECT counts and prints what fails, report() ends a test.
#pragma once

#include <cstdio>

namespace check {

inline int failures = 0;
inline long expectations = 0;

// Ends a test: prints one line and gives main's return value.
inline int report(const char* test) {
  std::printf("%s: %s (%ld expectations, %d failed)\n", test, failures ? "FAILED" : "ok",
              expectations, failures);
  return failures ? 1 : 0;
}

}  // namespace check

// EXPECT(condition, format, values...): the message says what was got. Only the first failures are
// printed, since one fault often fails thousands of times.
#define EXPECT(condition, ...)                                    \
  do {                                                            \
    ++check::expectations;                                        \
    if (!(condition) && check::failures++ < 20) {                 \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                   \
      std::printf("\n");                                          \
    }                                                             \
  } while (0)
