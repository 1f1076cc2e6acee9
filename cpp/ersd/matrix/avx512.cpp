// The variant for AVX-512 with VNNI.
#include "ersd/matrix/variants.h"

#ifdef ERSD_X86_OPERATIONS
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <utility>

// GCC warns of the undefined vectors in its own header.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("arch=x86-64-v4,avx512vnni")

namespace ersd::matrix {
namespace {

constexpr int kVectors = 2, kRowsOfVector = 2, kMostTokens = 8;
using Floats = float __attribute__((vector_size(64)));

// VNNI multiplies unsigned numbers by signed ones, so inputs are 128 more than they are.
constexpr char kShift = -128;  // 128 as a byte

// sums: -128 * the sums of four numbers, which make up for the shift.
struct Weights {
  __m512i numbers, sums;
  Floats scales;
};

inline __m256i load(const void* x) { return _mm256_loadu_si256(static_cast<const __m256i*>(x)); }
inline Floats all(float x) { return (Floats)_mm512_set1_ps(x); }
inline Floats multiply_add(Floats a, Floats b, Floats c) {
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline __m512i load_inputs(const uint8_t* x) { return _mm512_broadcast_i64x4(load(x)); }

inline Weights unpack(const Block* const* rows, int64_t block) {
  const Block &first = rows[0][block], &second = rows[1][block];
  const __m512i zero = _mm512_setzero_si512();
  const __m512i numbers =
      _mm512_inserti64x4(_mm512_castsi256_si512(load(first.numbers)), load(second.numbers), 1);
  const __m512i sums = _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(kShift), numbers);
  const __m256i scales = _mm256_set_m128i(_mm_set1_epi16(static_cast<int16_t>(second.scale)),
                                          _mm_set1_epi16(static_cast<int16_t>(first.scale)));
  return {numbers, _mm512_sub_epi32(zero, sums), (Floats)_mm512_cvtph_ps(scales)};
}

inline Floats products(const Weights& weights, __m512i x) {
  return (Floats)_mm512_cvtepi32_ps(_mm512_dpbusd_epi32(weights.sums, x, weights.numbers));
}

// Adds up each row's 8 sums of 4 tokens. It returns the rows 0 and 1 of token 0 in the places 0
// and 4, of token 1 in 8 and 12, of token 2 in 2 and 6, of token 3 in 10 and 14.
inline __m512 add_up(const Floats* sums) {
  const auto halves = [](Floats a, Floats b) {
    const auto x = (__m512)a, y = (__m512)b;
    return (Floats)_mm512_shuffle_f32x4(x, y, 0x88) + (Floats)_mm512_shuffle_f32x4(x, y, 0xdd);
  };
  const auto a = (__m512d)halves(sums[0], sums[1]), b = (__m512d)halves(sums[2], sums[3]);
  const Floats quarters = (Floats)_mm512_unpacklo_pd(a, b) + (Floats)_mm512_unpackhi_pd(a, b);
  return (__m512)(quarters + (Floats)_mm512_movehdup_ps((__m512)quarters));
}

template <int kTokens>
inline void write(const std::array<std::array<Floats, kMostTokens>, kVectors>& sums, float* out,
                  size_t out_stride, int64_t n) {
  const auto written = static_cast<__mmask8>((1U << n) - 1);
  const __m512i order =
      _mm512_setr_epi32(0, 4, 16, 20, 8, 12, 24, 28, 2, 6, 18, 22, 10, 14, 26, 30);
  for (size_t t = 0; t < kTokens; t += 4) {
    const __m512 all_rows =
        _mm512_permutex2var_ps(add_up(sums[0].data() + t), order, add_up(sums[1].data() + t));
    alignas(64) std::array<float, 16> values;
    _mm512_store_ps(values.data(), all_rows);
    for (size_t i = 0; i < std::min<size_t>(4, kTokens - t); ++i)
      _mm_mask_storeu_ps(out + (t + i) * out_stride, written, _mm_load_ps(values.data() + 4 * i));
  }
}

#include "ersd/matrix/loops.h"

// As ggml's quantize_row_q8_0.
void quantise(const float* x, int64_t token, const Inputs& inputs) {
  for (int64_t i = token * inputs.n_blocks; i < (token + 1) * inputs.n_blocks; ++i, x += kBlock) {
    const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    const float greatest =
        _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    inputs.scales[i] = _cvtsh_ss(_cvtss_sh(greatest / 127.0F, _MM_FROUND_TO_NEAREST_INT));
    const __m512 inverse = _mm512_set1_ps(greatest != 0 ? 127.0F / greatest : 0);
    const auto write = [&](__m512 numbers, uint8_t* to) {
      const __m128i bytes =
          _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(numbers, inverse)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(bytes, _mm_set1_epi8(kShift)));
    };
    write(low, inputs.numbers + i * kBlock), write(high, inputs.numbers + i * kBlock + 16);
  }
}

}  // namespace

const Variant avx512{"avx512", 1, quantise, multiply};

}  // namespace ersd::matrix
#endif
