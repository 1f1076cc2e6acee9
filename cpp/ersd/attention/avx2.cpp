// The variant for AVX2 with FMA and F16C.
#include "ersd/attention/variants.h"

#ifdef ERSD_X86_OPERATIONS
#include <immintrin.h>

#pragma GCC target("arch=x86-64-v3")

namespace ersd::attention {
namespace {

constexpr int kWidth = 8, kVectors = 2, kRows = 6, kTile = kVectors * kWidth;
using Floats = float __attribute__((vector_size(32)));
using Ints = int32_t __attribute__((vector_size(32)));
using Longs = int64_t __attribute__((vector_size(32)));
using UnsignedLongs = uint64_t __attribute__((vector_size(32)));

inline Floats all(float x) { return (Floats)_mm256_set1_ps(x); }
inline Floats load(const float* x) { return (Floats)_mm256_loadu_ps(x); }
inline void store(float* x, Floats y) { _mm256_storeu_ps(x, (__m256)y); }
inline Ints to_ints(Floats x) { return (Ints)_mm256_cvtps_epi32((__m256)x); }
inline Floats multiply_add(Floats a, Floats b, Floats c) {
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline Floats from_halves(const char* x) {
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}

#include "ersd/attention/loops.h"

}  // namespace

const Variant avx2{"avx2", kTile, kRows, kWidth, scores, weights, values};

}  // namespace ersd::attention
#endif
