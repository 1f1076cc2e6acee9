// Clocks by Philox4x32-10. The scalar functions define them token by token. The vectorised ones
// give the same bits for many tokens at once.
#include "ersd/race/noise.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ersd/race/logarithm.h"
#include "ersd/race/simd/lanes.h"
#include "ersd/race/simd/philox.h"
#include "ersd/race/simd/variants.h"

namespace ersd {
namespace {

using simd::kCounters;
using simd::PhiloxFunction;
using simd::PhiloxStream;

constexpr uint32_t kBlock = Clock::kBlock;

// The fourth counter word keeps the draws of blocks and those of tokens apart.
enum DrawKind : uint32_t { kBlockDraws = 0, kTokenDraws = 1 };

struct Bits {
  uint32_t high, low;
};

// The 64 bits of an index. One counter gives the bits of two indices.
inline Bits draw(const PhiloxStream& s, uint32_t index) {
  uint64_t a = index / 2, b = s.position, c = s.domain, d = s.kind;
  philox_rounds(a, b, c, d, s.key0, s.key1);
  return {static_cast<uint32_t>(index % 2 ? c : a), static_cast<uint32_t>(index % 2 ? d : b)};
}

// A variate in (0, 1) from the upper 52 of 64 bits. It is exact and never 0 nor 1, and so is 1
// minus it.
inline double to_uniform(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 12;
  return std::bit_cast<double>(bits | 0x3FF0000000000000) - (1 - 0x1p-53);
}

// -log(1 - u) rather than -log(u): the clocks that win are small, and u is finest near 0.
inline double to_exponential(uint32_t high, uint32_t low) {
  return -logarithm(1 - to_uniform(high, low));
}

// At least -log(x) for normal x > 0: between powers of 2 the logarithm lies above its chord, by at
// most 0.06. For x = 0 it is 88, which is more than the noise of any clock. The last term covers
// the rounding.
inline float noise_above(float x) {
  return 0.69314718f * (127 - 0x1p-23f * static_cast<float>(std::bit_cast<int32_t>(x))) + 2e-5f;
}

// At most the uniform variate of these bits.
inline float uniform_below(uint32_t high) {
  return static_cast<float>(static_cast<int32_t>(high >> 8)) * 0x1p-24f;
}

// At most the least clock of a block, -log(1 - u) / B, by the first terms of its series.
inline float least_clock_below(uint32_t high) {
  const float u = uniform_below(high);
  return u * (1 + u * (0.5f + u * (0.333333f + u * 0.25f))) * (1.0f / kBlock);
}

// high, low: u32[2 n_counters], noise_bounds: f32[2 n_counters]. n_counters is a multiple of
// kCounters.
ERSD_VECTORISED void draw_blocks_into(const PhiloxStream& stream, PhiloxFunction* philox,
                                      uint32_t n_counters, uint32_t* high, uint32_t* low,
                                      float* noise_bounds) {
  uint32_t index[kCounters], words[4][kCounters];
  for (uint32_t start = 0; start < n_counters; start += kCounters) {
    for (uint32_t i = 0; i < kCounters; ++i) index[i] = start + i;
    philox(stream, index, words);
    for (uint32_t i = 0; i < kCounters; ++i) {
      high[2 * (start + i)] = words[0][i], high[2 * (start + i) + 1] = words[2][i];
      low[2 * (start + i)] = words[1][i], low[2 * (start + i) + 1] = words[3][i];
    }
  }
  for (uint32_t i = 0; i < 2 * n_counters; ++i)
    noise_bounds[i] = noise_above(least_clock_below(high[i]));
}

// high, low, noise_bounds: room for n rounded up to a multiple of kCounters.
ERSD_VECTORISED void draw_tokens_into(const PhiloxStream& stream, PhiloxFunction* philox,
                                      const Token* tokens, size_t n, const uint32_t* block_high,
                                      const uint32_t* block_low, uint32_t* high, uint32_t* low,
                                      float* noise_bounds) {
  uint32_t token[kCounters], index[kCounters], words[4][kCounters], block_highs[kCounters],
      block_lows[kCounters], token_high[kCounters], token_low[kCounters];
  float bound[kCounters];
  for (size_t start = 0; start < n; start += kCounters) {
    if (n - start >= kCounters)
      std::memcpy(token, tokens + start, sizeof(token));
    else
      for (uint32_t i = 0; i < kCounters; ++i)
        token[i] = static_cast<uint32_t>(tokens[std::min(start + i, n - 1)]);
    for (uint32_t i = 0; i < kCounters; ++i) index[i] = token[i] / 2;
    for (uint32_t i = 0; i < kCounters; ++i)
      block_highs[i] = block_high[token[i] / kBlock], block_lows[i] = block_low[token[i] / kBlock];
    philox(stream, index, words);
    for (uint32_t i = 0; i < kCounters; ++i) {
      // Masks of all bits or none: whether the index is odd, and whether another token of the block
      // has its least clock.
      const uint32_t odd = 0 - token[i] % 2, later = (block_lows[i] ^ token[i]) % kBlock ? ~0u : 0u;
      token_high[i] = (words[0][i] & ~odd) | (words[2][i] & odd),
      token_low[i] = (words[1][i] & ~odd) | (words[3][i] & odd);
      bound[i] =
          noise_above(least_clock_below(block_highs[i]) + uniform_below(token_high[i] & later));
    }
    std::memcpy(high + start, token_high, sizeof(token_high));
    std::memcpy(low + start, token_low, sizeof(token_low));
    std::memcpy(noise_bounds + start, bound, sizeof(bound));
  }
}

ERSD_VECTORISED void compute_clocks_into(const Token* tokens, size_t n, const uint32_t* block_high,
                                         const uint32_t* block_low, const uint32_t* high,
                                         const uint32_t* low, double* out) {
  for (size_t i = 0; i < n; ++i) {
    const auto token = static_cast<uint32_t>(tokens[i]), block = token / kBlock;
    const double least = to_exponential(block_high[block], block_low[block]) / kBlock,
                 above = to_exponential(high[i], low[i]);
    out[i] = least + (block_low[block] % kBlock == token % kBlock ? 0.0 : above);
  }
}

}  // namespace

double uniform(uint64_t seed, uint32_t position, Domain domain, uint32_t index) {
  const auto words = philox({index, position, static_cast<uint32_t>(domain), 0},
                            {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return to_uniform(words[0], words[1]);
}

double Clock::operator()(Token token) const {
  const auto t = static_cast<uint32_t>(token);
  const Bits block = draw({key_[0], key_[1], position_, domain_, kBlockDraws}, t / kBlock);
  const double least = to_exponential(block.high, block.low) / kBlock;
  if (block.low % kBlock == t % kBlock) return least;
  const Bits bits = draw({key_[0], key_[1], position_, domain_, kTokenDraws}, t);
  return least + to_exponential(bits.high, bits.low);
}

void Clock::draw_blocks(size_t n_blocks, Draws& blocks) const {
  const size_t n_counters = (n_blocks + 2 * kCounters - 1) / (2 * kCounters) * kCounters;
  blocks.fit(2 * n_counters);
  draw_blocks_into({key_[0], key_[1], position_, domain_, kBlockDraws}, simd::best_variant.philox,
                   static_cast<uint32_t>(n_counters), blocks.high.data(), blocks.low.data(),
                   blocks.noise_bounds.data());
}

void Clock::draw_tokens(std::span<const Token> tokens, const Draws& blocks, Draws& draws) const {
  draws.fit((tokens.size() + kCounters - 1) / kCounters * kCounters);
  draw_tokens_into({key_[0], key_[1], position_, domain_, kTokenDraws}, simd::best_variant.philox,
                   tokens.data(), tokens.size(), blocks.high.data(), blocks.low.data(),
                   draws.high.data(), draws.low.data(), draws.noise_bounds.data());
}

void Clock::compute_clocks(std::span<const Token> tokens, const Draws& blocks, const Draws& draws,
                           std::span<double> out) {
  compute_clocks_into(tokens.data(), tokens.size(), blocks.high.data(), blocks.low.data(),
                      draws.high.data(), draws.low.data(), out.data());
}

}  // namespace ersd
