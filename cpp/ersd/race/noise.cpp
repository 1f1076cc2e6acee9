// Clocks by Philox4x32-10: the reference, token by token, and the vectorised sweeps that are held
// to it.
#include "ersd/race/noise.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ersd/race/logarithm.h"
#include "ersd/race/simd/lanes.h"

#ifdef ERSD_CLONES
#include <immintrin.h>
#endif

namespace ersd {
namespace {

constexpr uint32_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;    // Philox's multipliers
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;  // and key increments
constexpr uint32_t kBlock = Clock::kBlock, kCounters = 32;

struct Philox {
  uint32_t k0, k1, position, domain, stream;
};

// Words stay in lanes of 64 bits, whose upper halves are not cleared: what multiplies takes the
// lower ones alone.
inline void philox_rounds(uint64_t& a, uint64_t& b, uint64_t& c, uint64_t& d, uint32_t k0,
                          uint32_t k1) {
#if defined(__GNUC__)
#pragma GCC unroll 10
#endif
  for (uint32_t round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kMul0) * static_cast<uint32_t>(a),
                   p1 = static_cast<uint64_t>(kMul1) * static_cast<uint32_t>(c);
    a = (p1 >> 32) ^ b ^ (k0 + round * kWeyl0);
    c = (p0 >> 32) ^ d ^ (k1 + round * kWeyl1);
    b = p1;
    d = p0;
  }
}

// The 64 bits of an index: a half of the words of its counter.
inline void draw(const Philox& p, uint32_t index, uint32_t& high, uint32_t& low) {
  uint64_t a = index / 2, b = p.position, c = p.domain, d = p.stream;
  philox_rounds(a, b, c, d, p.k0, p.k1);
  high = static_cast<uint32_t>(index % 2 ? c : a);
  low = static_cast<uint32_t>(index % 2 ? d : b);
}

// In (0, 1) from the upper 52 of 64 bits, never 0 nor 1, and exact, as is 1 minus it.
inline double unit(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 12;
  return std::bit_cast<double>(bits | 0x3FF0000000000000) - (1 - 0x1p-53);
}

// -log(1 - u): small u, small clock, so that the clocks that win are the finely resolved ones.
inline double exponential(uint32_t high, uint32_t low) { return -logarithm(1 - unit(high, low)); }

// At least -log(x), x >= 0 normal or 0: between powers of 2 the logarithm lies above its chord, by
// 0.06 at most. For 0 it is 88, which is more than that of any clock. The margin covers rounding.
inline float noise_above(float x) {
  return 0.69314718f * (127 - 0x1p-23f * static_cast<float>(std::bit_cast<int32_t>(x))) + 2e-5f;
}

// At most the uniform variate of these bits.
inline float unit_below(uint32_t high) {
  return static_cast<float>(static_cast<int32_t>(high >> 8)) * 0x1p-24f;
}

// At most the least clock of a block: -log(1 - u) / B by the first terms of its series.
inline float minimum_below(uint32_t high) {
  const float u = unit_below(high);
  return u * (1 + u * (0.5f + u * (0.333333f + u * 0.25f))) * (1.0f / kBlock);
}

// The four words of each of kCounters counters, which differ in their index; index: u32[kCounters],
// words: u32[4, kCounters]. By hand for two instruction sets: of multiplications by a constant GCC
// makes shifts and additions, or those of 64 bits by 64.
#ifdef ERSD_CLONES
__attribute__((target("arch=x86-64-v4"))) void philox_each(const Philox& p, const uint32_t* index,
                                                           uint32_t (*words)[kCounters]) {
  constexpr uint32_t kSide =
      kCounters / 8;  // vectors side by side, as each round waits for the one before
  const __m512i mul0 = _mm512_set1_epi64(kMul0), mul1 = _mm512_set1_epi64(kMul1);
  __m512i a[kSide], b[kSide], c[kSide], d[kSide];  // of eight counters each
#pragma GCC unroll 4
  for (uint32_t s = 0; s < kSide; ++s) {
    a[s] =
        _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + 8 * s)));
    b[s] = _mm512_set1_epi64(p.position), c[s] = _mm512_set1_epi64(p.domain),
    d[s] = _mm512_set1_epi64(p.stream);
  }
#pragma GCC unroll 10
  for (uint32_t round = 0; round < 10; ++round) {
    const __m512i k0 = _mm512_set1_epi64(p.k0 + round * kWeyl0),
                  k1 = _mm512_set1_epi64(p.k1 + round * kWeyl1);
#pragma GCC unroll 4
    for (uint32_t s = 0; s < kSide; ++s) {
      const __m512i p0 = _mm512_mul_epu32(a[s], mul0), p1 = _mm512_mul_epu32(c[s], mul1);
      a[s] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), b[s], k0,
                                       0x96);  // exclusive or of three
      c[s] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), d[s], k1, 0x96);
      b[s] = p1, d[s] = p0;
    }
  }
  const __m512i lower =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#pragma GCC unroll 2
  for (uint32_t s = 0; s < kSide; s += 2) {
    const auto write = [&](const __m512i* word,
                           uint32_t* out) __attribute__((target("arch=x86-64-v4"), always_inline)) {
      _mm512_storeu_si512(out + 8 * s, _mm512_permutex2var_epi32(word[s], lower, word[s + 1]));
    };
    write(a, words[0]), write(b, words[1]), write(c, words[2]), write(d, words[3]);
  }
}

__attribute__((target("arch=x86-64-v3"))) void philox_each(const Philox& p, const uint32_t* index,
                                                           uint32_t (*words)[kCounters]) {
  constexpr uint32_t kSide = 4;  // vectors side by side, as each round waits for the one before
  const __m256i mul0 = _mm256_set1_epi64x(kMul0), mul1 = _mm256_set1_epi64x(kMul1);
  for (uint32_t i = 0; i < kCounters; i += 4 * kSide) {
    __m256i a[kSide], b[kSide], c[kSide], d[kSide];  // of four counters each
    for (uint32_t s = 0; s < kSide; ++s) {
      a[s] = _mm256_cvtepu32_epi64(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(index + i + 4 * s)));
      b[s] = _mm256_set1_epi64x(p.position), c[s] = _mm256_set1_epi64x(p.domain),
      d[s] = _mm256_set1_epi64x(p.stream);
    }
#pragma GCC unroll 10
    for (uint32_t round = 0; round < 10; ++round) {
      const __m256i k0 = _mm256_set1_epi64x(p.k0 + round * kWeyl0),
                    k1 = _mm256_set1_epi64x(p.k1 + round * kWeyl1);
      for (uint32_t s = 0; s < kSide; ++s) {
        const __m256i p0 = _mm256_mul_epu32(a[s], mul0), p1 = _mm256_mul_epu32(c[s], mul1);
        a[s] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), _mm256_xor_si256(b[s], k0));
        c[s] = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), _mm256_xor_si256(d[s], k1));
        b[s] = p1, d[s] = p0;
      }
    }
    const auto write = [&](const __m256i* word,
                           uint32_t* out) __attribute__((target("arch=x86-64-v3"), always_inline)) {
      for (uint32_t s = 0; s < kSide; s += 2) {
        const __m256 lower = _mm256_shuffle_ps(_mm256_castsi256_ps(word[s]),
                                               _mm256_castsi256_ps(word[s + 1]), 0b10'00'10'00);
        const __m256i in_order =
            _mm256_permute4x64_epi64(_mm256_castps_si256(lower), 0b11'01'10'00);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i + 4 * s), in_order);
      }
    };
    write(a, words[0]), write(b, words[1]), write(c, words[2]), write(d, words[3]);
  }
}

__attribute__((target("default")))
#endif
void philox_each(const Philox& p, const uint32_t* index, uint32_t (*words)[kCounters]) {
  for (uint32_t i = 0; i < kCounters; ++i) {
    uint64_t a = index[i], b = p.position, c = p.domain, d = p.stream;
    philox_rounds(a, b, c, d, p.k0, p.k1);
    words[0][i] = static_cast<uint32_t>(a), words[1][i] = static_cast<uint32_t>(b);
    words[2][i] = static_cast<uint32_t>(c), words[3][i] = static_cast<uint32_t>(d);
  }
}

// n_counters: a multiple of kCounters.
ERSD_VECTORISED void sweep_blocks(const Philox& p, uint32_t n_counters, uint32_t* high,
                                  uint32_t* low, float* noise) {
  uint32_t index[kCounters], words[4][kCounters];
  for (uint32_t start = 0; start < n_counters; start += kCounters) {
    for (uint32_t i = 0; i < kCounters; ++i) index[i] = start + i;
    philox_each(p, index, words);
    for (uint32_t i = 0; i < kCounters; ++i) {
      high[2 * (start + i)] = words[0][i], high[2 * (start + i) + 1] = words[2][i];
      low[2 * (start + i)] = words[1][i], low[2 * (start + i) + 1] = words[3][i];
    }
  }
  for (uint32_t i = 0; i < 2 * n_counters; ++i) noise[i] = noise_above(minimum_below(high[i]));
}

// high, low, noise have room for a multiple of kCounters.
ERSD_VECTORISED void sweep_tokens(const Philox& p, const Token* tokens, size_t n,
                                  const uint32_t* block_high, const uint32_t* block_low,
                                  uint32_t* high, uint32_t* low, float* noise) {
  uint32_t token[kCounters], index[kCounters], words[4][kCounters], least[kCounters],
      leader[kCounters], mine[kCounters], rest[kCounters];
  float bound[kCounters];
  for (size_t start = 0; start < n; start += kCounters) {
    if (n - start >= kCounters)
      std::memcpy(token, tokens + start, sizeof(token));
    else
      for (uint32_t i = 0; i < kCounters; ++i)
        token[i] = static_cast<uint32_t>(tokens[std::min(start + i, n - 1)]);
    for (uint32_t i = 0; i < kCounters; ++i) index[i] = token[i] / 2;
    for (uint32_t i = 0; i < kCounters; ++i)
      least[i] = block_high[token[i] / kBlock], leader[i] = block_low[token[i] / kBlock];
    philox_each(p, index, words);
    for (uint32_t i = 0; i < kCounters; ++i) {
      const uint32_t odd = 0 - token[i] % 2, other = (leader[i] ^ token[i]) % kBlock ? ~0u : 0u;
      mine[i] = (words[0][i] & ~odd) | (words[2][i] & odd),
      rest[i] = (words[1][i] & ~odd) | (words[3][i] & odd);
      bound[i] = noise_above(minimum_below(least[i]) + unit_below(mine[i] & other));
    }
    std::memcpy(high + start, mine, sizeof(mine)), std::memcpy(low + start, rest, sizeof(rest)),
        std::memcpy(noise + start, bound, sizeof(bound));
  }
}

ERSD_VECTORISED void sweep_clocks(const Token* tokens, size_t n, const uint32_t* block_high,
                                  const uint32_t* block_low, const uint32_t* high,
                                  const uint32_t* low, double* out) {
  for (size_t i = 0; i < n; ++i) {
    const auto token = static_cast<uint32_t>(tokens[i]), block = token / kBlock;
    const double minimum = exponential(block_high[block], block_low[block]) / kBlock,
                 above = exponential(high[i], low[i]);
    out[i] = minimum + (block_low[block] % kBlock == token % kBlock ? 0.0 : above);
  }
}

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  uint64_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
  philox_rounds(a, b, c, d, key[0], key[1]);
  return {static_cast<uint32_t>(a), static_cast<uint32_t>(b), static_cast<uint32_t>(c),
          static_cast<uint32_t>(d)};
}

double uniform(uint64_t seed, uint32_t position, Domain domain, uint32_t index) {
  const auto bits = philox({index, position, static_cast<uint32_t>(domain), 0},
                           {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return unit(bits[0], bits[1]);
}

double Clock::operator()(Token token) const {
  const auto t = static_cast<uint32_t>(token);
  uint32_t block_high, block_low, high, low;
  draw({key_[0], key_[1], position_, domain_, kBlocks}, t / kBlock, block_high, block_low);
  const double minimum = exponential(block_high, block_low) / kBlock;
  if (block_low % kBlock == t % kBlock) return minimum;
  draw({key_[0], key_[1], position_, domain_, kTokens}, t, high, low);
  return minimum + exponential(high, low);
}

void Clock::draw_blocks(size_t n_blocks, Draws& blocks) const {
  const size_t n_counters = (n_blocks + 2 * kCounters - 1) / (2 * kCounters) * kCounters;
  blocks.fit(2 * n_counters);
  sweep_blocks({key_[0], key_[1], position_, domain_, kBlocks}, static_cast<uint32_t>(n_counters),
               blocks.high.data(), blocks.low.data(), blocks.noise.data());
}

void Clock::draw_tokens(std::span<const Token> tokens, const Draws& blocks, Draws& draws) const {
  draws.fit((tokens.size() + kCounters - 1) / kCounters * kCounters);
  sweep_tokens({key_[0], key_[1], position_, domain_, kTokens}, tokens.data(), tokens.size(),
               blocks.high.data(), blocks.low.data(), draws.high.data(), draws.low.data(),
               draws.noise.data());
}

void Clock::clocks(std::span<const Token> tokens, const Draws& blocks, const Draws& draws,
                   std::span<double> out) {
  sweep_clocks(tokens.data(), tokens.size(), blocks.high.data(), blocks.low.data(),
               draws.high.data(), draws.low.data(), out.data());
}

}  // namespace ersd
