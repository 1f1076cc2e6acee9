// The variant for AVX2 with FMA and F16C.
#include "ersd/matrix/variants.h"

#ifdef ERSD_X86_OPERATIONS
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <utility>

#pragma GCC target("arch=x86-64-v3")

namespace ersd::matrix {
namespace {

constexpr int kVectors = 2, kRowsOfVector = 1, kMostTokens = 4;
using Floats = float __attribute__((vector_size(32)));

// AVX2 multiplies unsigned numbers by signed ones, so the signs of weights go to the inputs.
struct Weights {
  __m256i numbers, magnitudes;
  Floats scales;
};

inline __m256i load(const void* x) { return _mm256_loadu_si256(static_cast<const __m256i*>(x)); }
inline Floats all(float x) { return (Floats)_mm256_set1_ps(x); }
inline Floats multiply_add(Floats a, Floats b, Floats c) {
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline __m256i load_inputs(const uint8_t* x) { return load(x); }

inline Weights unpack(const Block* const* rows, int64_t block) {
  const Block& of_row = rows[0][block];
  const __m256i numbers = load(of_row.numbers);
  return {numbers, _mm256_abs_epi8(numbers), all(_cvtsh_ss(of_row.scale))};
}

inline Floats products(const Weights& weights, __m256i x) {
  const __m256i pairs =
      _mm256_maddubs_epi16(weights.magnitudes, _mm256_sign_epi8(x, weights.numbers));
  return (Floats)_mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

inline float add_up(Floats sums) {
  const auto x = (__m256)sums;
  const __m128 halves = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 quarters = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
  return _mm_cvtss_f32(_mm_add_ss(quarters, _mm_movehdup_ps(quarters)));
}

template <int kTokens>
inline void write(const std::array<std::array<Floats, kMostTokens>, kVectors>& sums, float* out,
                  size_t out_stride, int64_t n) {
  for (size_t t = 0; t < kTokens; ++t)
    for (size_t row = 0; row < static_cast<size_t>(n); ++row)
      out[t * out_stride + row] = add_up(sums[row][t]);
}

#include "ersd/matrix/loops.h"

float greatest_magnitude(const float* x) {
  __m256 all = _mm256_setzero_ps();
  for (int64_t i = 0; i < kBlock; i += 8)
    all = _mm256_max_ps(all, _mm256_andnot_ps(_mm256_set1_ps(-0.0F), _mm256_loadu_ps(x + i)));
  __m128 rest = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
  rest = _mm_max_ps(rest, _mm_movehl_ps(rest, rest));
  return _mm_cvtss_f32(_mm_max_ss(rest, _mm_movehdup_ps(rest)));
}

// As ggml's quantize_row_q8_0.
void quantise(const float* x, int64_t token, const Inputs& inputs) {
  for (int64_t i = token * inputs.n_blocks; i < (token + 1) * inputs.n_blocks; ++i, x += kBlock) {
    const float greatest = greatest_magnitude(x);
    inputs.scales[i] = _cvtsh_ss(_cvtss_sh(greatest / 127.0F, _MM_FROUND_TO_NEAREST_INT));
    const __m256 inverse = _mm256_set1_ps(greatest != 0 ? 127.0F / greatest : 0);
    const auto whole = [&](int64_t at) {
      return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + at), inverse));
    };
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(whole(0), whole(8)),
                                             _mm256_packs_epi32(whole(16), whole(24)));
    // Packing works on halves of vectors; this brings the numbers back into their order.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(inputs.numbers + i * kBlock),
                        _mm256_permutevar8x32_epi32(bytes, order));
  }
}

}  // namespace

const Variant avx2{"avx2", 2, quantise, multiply};

}  // namespace ersd::matrix
#endif
