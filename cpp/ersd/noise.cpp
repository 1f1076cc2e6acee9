// Clocks by Philox4x32-10: the reference, token by token, and the vectorised sweeps that are held to it.
#include "ersd/noise.h"

#include <bit>

#include "ersd/logarithm.h"
#include "ersd/simd.h"

namespace ersd {
namespace {

constexpr uint32_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;    // Philox's multipliers
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;  // and key increments
constexpr uint32_t kBlock = Clock::kBlock, kCounters = 32;

struct Philox {
  uint32_t k0, k1, position, domain, stream;
};

// Words stay in lanes of 64 bits, whose upper halves are not cleared: what multiplies takes the lower ones alone.
inline void philox_rounds(uint64_t& a, uint64_t& b, uint64_t& c, uint64_t& d, uint32_t k0, uint32_t k1) {
#if defined(__GNUC__)
#pragma GCC unroll 10
#endif
  for (uint32_t round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kMul0) * static_cast<uint32_t>(a), p1 = static_cast<uint64_t>(kMul1) * static_cast<uint32_t>(c);
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

// At least -log(x), x >= 0 normal or 0: between powers of 2 the logarithm lies above its chord, by 0.06 at most. For 0 it is 88, which is more than
// that of any clock. The margin covers rounding.
inline float noise_above(float x) { return 0.69314718f * (127 - 0x1p-23f * static_cast<float>(std::bit_cast<int32_t>(x))) + 2e-5f; }

// At most the uniform variate of these bits.
inline float unit_below(uint32_t high) { return static_cast<float>(static_cast<int32_t>(high >> 8)) * 0x1p-24f; }

// At most the least clock of a block: -log(1 - u) / B by the first terms of its series.
inline float minimum_below(uint32_t high) {
  const float u = unit_below(high);
  return u * (1 + u * (0.5f + u * (0.333333f + u * 0.25f))) * (1.0f / kBlock);
}

// n_counters: a multiple of kCounters.
ERSD_VECTORISED void sweep_blocks(const Philox& p, uint32_t n_counters, uint32_t* high, uint32_t* low, float* noise) {
  for (uint32_t start = 0; start < n_counters; start += kCounters) {
    uint32_t words[4][kCounters];
    for (uint32_t i = 0; i < kCounters; ++i) {
      uint64_t a = start + i, b = p.position, c = p.domain, d = p.stream;
      philox_rounds(a, b, c, d, p.k0, p.k1);
      words[0][i] = static_cast<uint32_t>(a), words[1][i] = static_cast<uint32_t>(b);
      words[2][i] = static_cast<uint32_t>(c), words[3][i] = static_cast<uint32_t>(d);
    }
    for (uint32_t i = 0; i < kCounters; ++i) {
      high[2 * (start + i)] = words[0][i], high[2 * (start + i) + 1] = words[2][i];
      low[2 * (start + i)] = words[1][i], low[2 * (start + i) + 1] = words[3][i];
    }
  }
  for (uint32_t i = 0; i < 2 * n_counters; ++i) noise[i] = noise_above(minimum_below(high[i]));
}

ERSD_VECTORISED void sweep_tokens(const Philox& p, const Token* tokens, size_t n, const uint32_t* block_high, const uint32_t* block_low,
                                  uint32_t* high, uint32_t* low, float* noise) {
  for (size_t i = 0; i < n; ++i) draw(p, static_cast<uint32_t>(tokens[i]), high[i], low[i]);
  for (size_t i = 0; i < n; ++i) {
    const auto token = static_cast<uint32_t>(tokens[i]), block = token / kBlock;
    const float minimum = minimum_below(block_high[block]), above = unit_below(high[i]);
    noise[i] = noise_above(minimum + (block_low[block] % kBlock == token % kBlock ? 0.0f : above));
  }
}

ERSD_VECTORISED void sweep_clocks(const Token* tokens, size_t n, const uint32_t* block_high, const uint32_t* block_low, const uint32_t* high,
                                  const uint32_t* low, double* out) {
  for (size_t i = 0; i < n; ++i) {
    const auto token = static_cast<uint32_t>(tokens[i]), block = token / kBlock;
    const double minimum = exponential(block_high[block], block_low[block]) / kBlock, above = exponential(high[i], low[i]);
    out[i] = minimum + (block_low[block] % kBlock == token % kBlock ? 0.0 : above);
  }
}

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  uint64_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
  philox_rounds(a, b, c, d, key[0], key[1]);
  return {static_cast<uint32_t>(a), static_cast<uint32_t>(b), static_cast<uint32_t>(c), static_cast<uint32_t>(d)};
}

double uniform(uint64_t seed, uint32_t position, Domain domain, uint32_t index) {
  const auto bits = philox({index, position, static_cast<uint32_t>(domain), 0}, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
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
  blocks.resize(2 * n_counters);
  sweep_blocks({key_[0], key_[1], position_, domain_, kBlocks}, static_cast<uint32_t>(n_counters), blocks.high.data(), blocks.low.data(),
               blocks.noise.data());
}

void Clock::draw_tokens(std::span<const Token> tokens, const Draws& blocks, Draws& draws) const {
  draws.resize(tokens.size());
  sweep_tokens({key_[0], key_[1], position_, domain_, kTokens}, tokens.data(), tokens.size(), blocks.high.data(), blocks.low.data(),
               draws.high.data(), draws.low.data(), draws.noise.data());
}

void Clock::clocks(std::span<const Token> tokens, const Draws& blocks, const Draws& draws, std::span<double> out) {
  sweep_clocks(tokens.data(), tokens.size(), blocks.high.data(), blocks.low.data(), draws.high.data(), draws.low.data(), out.data());
}

}  // namespace ersd
