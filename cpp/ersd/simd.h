// Compiles a function for several instruction sets and picks one at load time; the compiler's own vectorisation does the rest.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define ERSD_CLONES
#define ERSD_VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ERSD_VECTORISED
#endif

namespace ersd {

constexpr int kLanes = 16;

#if defined(__GNUC__)
// 16 floats side by side, by the compiler's vector types: loops over arrays of 16 do not become vector code of themselves here.
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

inline void load(const float* x, Lanes& lanes) { __builtin_memcpy(&lanes, x, sizeof(lanes)); }
// Where a is not greater, b: NaN in a never wins.
inline void keep_greater(const Lanes& a, Lanes& b) { b = a > b ? a : b; }
inline float greatest(const Lanes& lanes) {
  Lanes m = lanes;
  keep_greater(__builtin_shufflevector(m, m, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7), m);
  keep_greater(__builtin_shufflevector(m, m, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11), m);
  keep_greater(__builtin_shufflevector(m, m, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13), m);
  keep_greater(__builtin_shufflevector(m, m, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14), m);
  return m[0];
}
#else
struct Lanes {
  float x[kLanes];
  float& operator[](int i) { return x[i]; }
};
inline void load(const float* x, Lanes& lanes) {
  for (int i = 0; i < kLanes; ++i) lanes.x[i] = x[i];
}
inline void keep_greater(const Lanes& a, Lanes& b) {
  for (int i = 0; i < kLanes; ++i) b.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i];
}
inline float greatest(const Lanes& m) {
  float greatest = m.x[0];
  for (float x : m.x) greatest = x > greatest ? x : greatest;
  return greatest;
}
#endif

}  // namespace ersd
