// The variant for AVX-512.
#include "ersd/attention/variants.h"

#ifdef ERSD_X86_OPERATIONS
#include <immintrin.h>

// GCC warns of the undefined vectors in its own header.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("arch=x86-64-v4")

namespace ersd::attention {
namespace {

constexpr int kWidth = 16, kVectors = 4, kRows = 6, kTile = kVectors * kWidth;
using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Longs = int64_t __attribute__((vector_size(64)));
using UnsignedLongs = uint64_t __attribute__((vector_size(64)));

inline Floats all(float x) { return (Floats)_mm512_set1_ps(x); }
inline Floats load(const float* x) { return (Floats)_mm512_loadu_ps(x); }
inline void store(float* x, Floats y) { _mm512_storeu_ps(x, (__m512)y); }
inline Ints to_ints(Floats x) { return (Ints)_mm512_cvtps_epi32((__m512)x); }
inline Floats multiply_add(Floats a, Floats b, Floats c) {
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline Floats from_halves(const char* x) {
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

#include "ersd/attention/loops.h"

}  // namespace

const Variant avx512{"avx512", kTile, kRows, kWidth, scores, weights, values};

}  // namespace ersd::attention
#endif
