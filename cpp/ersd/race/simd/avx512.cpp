// The variant for AVX-512, which moves selected lanes together and combines three words at once.
#include "ersd/race/simd/variants.h"

#ifdef ERSD_X86_VARIANTS
#include <immintrin.h>

#include <bit>

#include "ersd/race/simd/philox.h"

namespace ersd::simd {

#define ERSD_AVX512 __attribute__((target("arch=x86-64-v4")))

namespace {

constexpr uint32_t kCountersPerVector = 8;                     // each word takes 64 bits
constexpr uint32_t kVectors = kCounters / kCountersPerVector;  // worked on in turn
constexpr int kExclusiveOrOfThree = 0x96;

// Writes the lower 32 bits of the words in kVectors vectors; out: u32[kCounters].
ERSD_AVX512 inline __attribute__((always_inline)) void store_lower_halves(const __m512i* vectors,
                                                                          uint32_t* out) {
  const __m512i lower =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#pragma GCC unroll 2
  for (uint32_t v = 0; v < kVectors; v += 2)
    _mm512_storeu_si512(out + kCountersPerVector * v,
                        _mm512_permutex2var_epi32(vectors[v], lower, vectors[v + 1]));
}

}  // namespace

ERSD_AVX512 void philox_avx512(const PhiloxStream& stream, const uint32_t* index,
                               uint32_t (*words)[kCounters]) {
  const __m512i multiplier0 = _mm512_set1_epi64(kPhiloxMultiplier0),
                multiplier1 = _mm512_set1_epi64(kPhiloxMultiplier1);
  __m512i a[kVectors], b[kVectors], c[kVectors], d[kVectors];
#pragma GCC unroll 4
  for (uint32_t v = 0; v < kVectors; ++v) {
    a[v] = _mm512_cvtepu32_epi64(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + kCountersPerVector * v)));
    b[v] = _mm512_set1_epi64(stream.position);
    c[v] = _mm512_set1_epi64(stream.domain);
    d[v] = _mm512_set1_epi64(stream.kind);
  }
#pragma GCC unroll 10
  for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
    const __m512i key0 = _mm512_set1_epi64(stream.key0 + round * kPhiloxWeyl0),
                  key1 = _mm512_set1_epi64(stream.key1 + round * kPhiloxWeyl1);
#pragma GCC unroll 4
    for (uint32_t v = 0; v < kVectors; ++v) {
      const __m512i p0 = _mm512_mul_epu32(a[v], multiplier0),
                    p1 = _mm512_mul_epu32(c[v], multiplier1);
      a[v] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), b[v], key0, kExclusiveOrOfThree);
      c[v] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), d[v], key1, kExclusiveOrOfThree);
      b[v] = p1, d[v] = p0;
    }
  }
  store_lower_halves(a, words[0]), store_lower_halves(b, words[1]);
  store_lower_halves(c, words[2]), store_lower_halves(d, words[3]);
}

ERSD_AVX512 size_t indices_at_least_avx512(const float* x, size_t size, float least, int32_t offset,
                                           int32_t* out) {
  const __m512 limit = _mm512_set1_ps(least);
  const __m512i step = _mm512_set1_epi32(16);
  __m512i indices =
      _mm512_add_epi32(_mm512_set1_epi32(offset),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  size_t n = 0, i = 0;
  const auto append = [&](__mmask16 lanes) ERSD_AVX512 __attribute__((always_inline)) {
    const __mmask16 reached =
        _mm512_mask_cmp_ps_mask(lanes, _mm512_maskz_loadu_ps(lanes, x + i), limit, _CMP_GE_OQ);
    _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi32(reached, indices));
    n += static_cast<size_t>(std::popcount(static_cast<uint32_t>(reached)));
    indices = _mm512_add_epi32(indices, step);
  };
  for (; i + 16 <= size; i += 16) append(0xFFFF);
  if (i < size) append(static_cast<__mmask16>((1u << (size - i)) - 1));
  return n;
}

}  // namespace ersd::simd
#endif
