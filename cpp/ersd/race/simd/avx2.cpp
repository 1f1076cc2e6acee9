// The variant for AVX2.
#include "ersd/race/simd/variants.h"

#ifdef ERSD_X86_VARIANTS
#include <immintrin.h>

#include <array>
#include <bit>

#include "ersd/race/simd/philox.h"

namespace ersd::simd {
namespace {

#define ERSD_AVX2 __attribute__((target("arch=x86-64-v3")))

// The indices of the lanes that each mask of 8 lanes selects, in order; u8[256, 8].
constexpr auto kSelectedLanes = [] {
  std::array<std::array<uint8_t, 8>, 256> lanes{};
  for (uint32_t mask = 0; mask < 256; ++mask)
    for (uint8_t lane = 0, n = 0; lane < 8; ++lane)
      if (mask >> lane & 1) lanes[mask][n++] = lane;
  return lanes;
}();

constexpr uint32_t kCountersPerVector = 4;  // each word takes 64 bits
constexpr uint32_t kVectors = 4;  // worked on in turn, because each round waits for the one before

// Writes the lower 32 bits of the words in kVectors vectors; out: u32[kVectors * 4].
ERSD_AVX2 inline __attribute__((always_inline)) void store_lower_halves(const __m256i* vectors,
                                                                        uint32_t* out) {
  for (uint32_t v = 0; v < kVectors; v += 2) {
    const __m256 lower = _mm256_shuffle_ps(_mm256_castsi256_ps(vectors[v]),
                                           _mm256_castsi256_ps(vectors[v + 1]), 0b10'00'10'00);
    const __m256i in_order = _mm256_permute4x64_epi64(_mm256_castps_si256(lower), 0b11'01'10'00);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kCountersPerVector * v), in_order);
  }
}

}  // namespace

// GCC does not find the multiplication of 32 by 32 bits: it makes shifts and additions of a
// multiplication by a constant.
ERSD_AVX2 void philox_avx2(const PhiloxStream& stream, const uint32_t* index,
                           uint32_t (*words)[kCounters]) {
  const __m256i multiplier0 = _mm256_set1_epi64x(kPhiloxMultiplier0),
                multiplier1 = _mm256_set1_epi64x(kPhiloxMultiplier1);
  for (uint32_t i = 0; i < kCounters; i += kCountersPerVector * kVectors) {
    __m256i a[kVectors], b[kVectors], c[kVectors], d[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) {
      a[v] = _mm256_cvtepu32_epi64(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(index + i + kCountersPerVector * v)));
      b[v] = _mm256_set1_epi64x(stream.position);
      c[v] = _mm256_set1_epi64x(stream.domain);
      d[v] = _mm256_set1_epi64x(stream.kind);
    }
#pragma GCC unroll 10
    for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
      const __m256i key0 = _mm256_set1_epi64x(stream.key0 + round * kPhiloxWeyl0),
                    key1 = _mm256_set1_epi64x(stream.key1 + round * kPhiloxWeyl1);
      for (uint32_t v = 0; v < kVectors; ++v) {
        const __m256i p0 = _mm256_mul_epu32(a[v], multiplier0),
                      p1 = _mm256_mul_epu32(c[v], multiplier1);
        a[v] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), _mm256_xor_si256(b[v], key0));
        c[v] = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), _mm256_xor_si256(d[v], key1));
        b[v] = p1, d[v] = p0;
      }
    }
    store_lower_halves(a, words[0] + i), store_lower_halves(b, words[1] + i);
    store_lower_halves(c, words[2] + i), store_lower_halves(d, words[3] + i);
  }
}

ERSD_AVX2 size_t indices_at_least_avx2(const float* x, size_t size, float least, int32_t offset,
                                       int32_t* out) {
  const __m256 limit = _mm256_set1_ps(least);
  const __m256i step = _mm256_set1_epi32(8);
  __m256i indices =
      _mm256_add_epi32(_mm256_set1_epi32(offset), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  size_t n = 0, i = 0;
  for (; i + 8 <= size; i += 8) {
    const auto reached = static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), limit, _CMP_GE_OQ)));
    const __m256i lanes = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kSelectedLanes[reached].data())));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + n),
                        _mm256_permutevar8x32_epi32(indices, lanes));
    n += static_cast<size_t>(std::popcount(reached));
    indices = _mm256_add_epi32(indices, step);
  }
  for (; i < size; ++i)
    if (x[i] >= least) out[n++] = offset + static_cast<int32_t>(i);
  return n;
}

}  // namespace ersd::simd
#endif
