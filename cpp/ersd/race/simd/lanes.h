// Vectorisation by the compiler: functions that are compiled for several instruction sets, and
// small vectors of floats.
#pragma once

// Compiles a function for three instruction sets, of which the loader chooses one. It is off under
// the address and thread sanitizers, because the loader chooses before a sanitizer is initialised,
// which not every system allows.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ERSD_VECTORISED \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ERSD_VECTORISED
#endif

namespace ersd {

constexpr int kSums = 16;  // partial sums in parallel; their number decides how sums round

#if defined(__GNUC__)
// A few floats by the compiler's vector types, because GCC does not vectorise loops over small
// arrays here. They are no wider than the vectors of most machines, because GCC splits wider ones
// into single floats.
#if defined(__x86_64__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

inline void load(const float* x, Lanes& lanes) { __builtin_memcpy(&lanes, x, sizeof(lanes)); }
inline void store(const Lanes& lanes, float* x) { __builtin_memcpy(x, &lanes, sizeof(lanes)); }
// b = max(a, b) lane by lane; NaN in a never wins.
inline void keep_greater(const Lanes& a, Lanes& b) { b = a > b ? a : b; }
#else
constexpr int kLanes = 8;
struct Lanes {
  float x[kLanes];
  float& operator[](int i) { return x[i]; }
  float operator[](int i) const { return x[i]; }
};
inline void load(const float* x, Lanes& lanes) {
  for (int i = 0; i < kLanes; ++i) lanes.x[i] = x[i];
}
inline void store(const Lanes& lanes, float* x) {
  for (int i = 0; i < kLanes; ++i) x[i] = lanes.x[i];
}
inline void keep_greater(const Lanes& a, Lanes& b) {
  for (int i = 0; i < kLanes; ++i) b.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i];
}
#endif

// Returns the greatest lane.
inline float greatest(const Lanes& lanes) {
  float m = lanes[0];
  for (int i = 1; i < kLanes; ++i) m = lanes[i] > m ? lanes[i] : m;
  return m;
}

// Puts the greatest lane of vector i into lane i of m[0].
inline void greatest_of_each(Lanes (&m)[kLanes]) {
#if defined(__GNUC__) && defined(__x86_64__)
  // Each of three stages merges two vectors into one, half of whose lanes belong to each.
  for (int i = 0; i < 8; i += 2) {
    const Lanes high = __builtin_shufflevector(m[i], m[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    m[i / 2] = __builtin_shufflevector(m[i], m[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    keep_greater(high, m[i / 2]);
  }
  for (int i = 0; i < 4; i += 2) {
    const Lanes high = __builtin_shufflevector(m[i], m[i + 1], 2, 3, 10, 11, 6, 7, 14, 15);
    m[i / 2] = __builtin_shufflevector(m[i], m[i + 1], 0, 1, 8, 9, 4, 5, 12, 13);
    keep_greater(high, m[i / 2]);
  }
  const Lanes high = __builtin_shufflevector(m[0], m[1], 4, 5, 6, 7, 12, 13, 14, 15);
  m[0] = __builtin_shufflevector(m[0], m[1], 0, 1, 2, 3, 8, 9, 10, 11);
  keep_greater(high, m[0]);
#else
  Lanes each;
  for (int k = 0; k < kLanes; ++k) each[k] = greatest(m[k]);
  m[0] = each;
#endif
}

}  // namespace ersd
