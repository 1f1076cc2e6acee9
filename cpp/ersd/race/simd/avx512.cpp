// The variant for AVX-512, which has an instruction that moves selected lanes together.
#include "ersd/race/simd/variants.h"

#ifdef ERSD_X86_VARIANTS
#include <immintrin.h>

#include <bit>

namespace ersd::simd {

#define ERSD_AVX512 __attribute__((target("arch=x86-64-v4")))

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
