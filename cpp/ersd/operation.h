// What operations of ours in llama.cpp's calls have in common.
#pragma once

#include <cstdint>

// Whether the operations have code for x86-64. The sanitizer of threads does not see the barriers
// of llama.cpp's threads. MinGW does not align the stack for AVX, and other compilers have not been
// tried.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#define ERSD_X86_OPERATIONS
#endif

namespace ersd {

constexpr int64_t kCacheLine = 64;  // bytes

constexpr int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// Waits until all threads of the operation have come to it.
struct Barrier {
  void (*wait)(void*);
  void* threads;
  void operator()() const { wait(threads); }
};

}  // namespace ersd
