// The one place where the compiler's own vectorisation does not reach: a list of places needs an
// instruction that compresses.
#include "ersd/race/threshold.h"

#include <array>
#include <bit>
#include <cstring>

#include "ersd/race/simd/lanes.h"

#ifdef ERSD_CLONES
#include <immintrin.h>
#endif

namespace ersd {
namespace {

#ifdef ERSD_CLONES
__attribute__((target("arch=x86-64-v4"))) size_t find_indices(const float* x, size_t size,
                                                              float least, int32_t offset,
                                                              int32_t* out) {
  const __m512 limit = _mm512_set1_ps(least);
  const __m512i step = _mm512_set1_epi32(16);
  __m512i place =
      _mm512_add_epi32(_mm512_set1_epi32(offset),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  size_t n = 0, i = 0;
  const auto add = [&](__mmask16 there) __attribute__((target("arch=x86-64-v4"), always_inline)) {
    const __mmask16 reached =
        _mm512_mask_cmp_ps_mask(there, _mm512_maskz_loadu_ps(there, x + i), limit, _CMP_GE_OQ);
    _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi32(reached, place));
    n += static_cast<size_t>(std::popcount(static_cast<uint32_t>(reached)));
    place = _mm512_add_epi32(place, step);
  };
  for (; i + 16 <= size; i += 16) add(0xFFFF);
  if (i < size) add(static_cast<__mmask16>((1u << (size - i)) - 1));
  return n;
}

// For each mask of 8 lanes the lanes that are in it, in order.
constexpr auto kCompressed = [] {
  std::array<std::array<uint8_t, 8>, 256> lanes{};
  for (uint32_t mask = 0; mask < 256; ++mask)
    for (uint8_t lane = 0, n = 0; lane < 8; ++lane)
      if (mask >> lane & 1) lanes[mask][n++] = lane;
  return lanes;
}();

__attribute__((target("arch=x86-64-v3"))) size_t find_indices(const float* x, size_t size,
                                                              float least, int32_t offset,
                                                              int32_t* out) {
  const __m256 limit = _mm256_set1_ps(least);
  const __m256i step = _mm256_set1_epi32(8);
  __m256i place =
      _mm256_add_epi32(_mm256_set1_epi32(offset), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  size_t n = 0, i = 0;
  for (; i + 8 <= size; i += 8) {
    const auto reached = static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), limit, _CMP_GE_OQ)));
    const __m256i lanes = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kCompressed[reached].data())));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + n),
                        _mm256_permutevar8x32_epi32(place, lanes));
    n += static_cast<size_t>(std::popcount(reached));
    place = _mm256_add_epi32(place, step);
  }
  for (; i < size; ++i)
    if (x[i] >= least) out[n++] = offset + static_cast<int32_t>(i);
  return n;
}

__attribute__((target("default")))
#endif
size_t find_indices(const float* x, size_t size, float least, int32_t offset, int32_t* out) {
  size_t n = 0, i = 0;
  for (; i + 8 <= size; i += 8) {
    uint8_t reached[8];
    for (size_t j = 0; j < 8; ++j) reached[j] = x[i + j] >= least;
    uint64_t any;
    std::memcpy(&any, reached, sizeof(any));
    for (size_t j = 0; any && j < 8; ++j) {
      out[n] = offset + static_cast<int32_t>(i + j);
      n += reached[j];
    }
  }
  for (; i < size; ++i)
    if (x[i] >= least) out[n++] = offset + static_cast<int32_t>(i);
  return n;
}

}  // namespace

size_t indices_at_least(std::span<const float> x, float least, int32_t offset, int32_t* out) {
  return find_indices(x.data(), x.size(), least, offset, out);
}

}  // namespace ersd
