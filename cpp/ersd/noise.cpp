// Clocks by Philox4x32-10, and the two vectorised sweeps that bound them.
#include "ersd/noise.h"

#include <bit>
#include <cmath>

#include "ersd/simd.h"

namespace ersd {
namespace {

constexpr uint32_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;    // Philox's multipliers
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;  // and key increments

inline void philox_rounds(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kMul0) * a, p1 = static_cast<uint64_t>(kMul1) * c;
    a = static_cast<uint32_t>(p1 >> 32) ^ b ^ k0;
    c = static_cast<uint32_t>(p0 >> 32) ^ d ^ k1;
    b = static_cast<uint32_t>(p1);
    d = static_cast<uint32_t>(p0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
}

// In (0, 1) from 53 of 64 bits, never 0 nor 1.
inline double unit(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 11;
  return (static_cast<double>(bits) + 0.5) * 0x1p-53;
}

// -log(1 - u): small u, small clock, so that the clocks that win are the finely resolved ones.
inline double exponential(uint32_t high, uint32_t low) { return -std::log1p(-unit(high, low)); }

// log2(x) within 1e-5 for normal x > 0, and -127 for 0: the exponent, and a Chebyshev fit of log2(1 + m) / m for the mantissa.
inline float log2_fast(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
  const float m = std::bit_cast<float>((bits & 0x007FFFFF) | 0x3F800000) - 1.0f;  // [0, 1)
  return exponent + m * (1.4426815f + m * (-0.72035877f + m * (0.46865888f + m * (-0.30163801f + m * (0.1444711f - m * 0.033822046f)))));
}

constexpr float kLn2 = 0.69314718f;

ERSD_VECTORISED void sweep_bounds(uint32_t k0, uint32_t k1, uint32_t position, uint32_t domain, uint32_t stream, int32_t n, float* greatest,
                                  float* least, Token* leader) {
  for (int32_t start = 0; start < n; start += kLanes) {
    uint32_t a[kLanes], b[kLanes], c[kLanes], d[kLanes];
    float high[kLanes], low[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      a[i] = static_cast<uint32_t>(start + i), b[i] = position, c[i] = domain, d[i] = stream;
      philox_rounds(a[i], b[i], c[i], d[i], k0, k1);
      // minimum = -log1p(-u) / B lies between u / B and, for u <= 0.5, (u + u^2) / B; u is known to 31 bits.
      // For 0 the upper bound is log(B) + 31 log(2) + 88, more than any clock reaches. The margins cover log2_fast and rounding.
      const float u = static_cast<float>(static_cast<int32_t>(a[i] >> 1)) * 0x1p-31f, v = u + 0x1p-30f;
      high[i] = kLn2 * (7.0f - log2_fast(u)) + 5e-5f;
      low[i] = v <= 0.5f ? kLn2 * (7.0f - log2_fast(v + v * v)) - 5e-5f : -1e30f;
    }
    for (int i = 0; i < kLanes && start + i < n; ++i) {
      greatest[start + i] = high[i];
      least[start + i] = low[i];
      leader[start + i] = (start + i) * Clock::kBlock + static_cast<Token>(c[i] % Clock::kBlock);
    }
  }
}

// clock >= minimum + u, and u >= word * 2^-32.
ERSD_VECTORISED void sweep_block(uint32_t k0, uint32_t k1, uint32_t position, uint32_t domain, uint32_t stream, uint32_t first, float minimum,
                                 float* out) {
  constexpr int kDraws = Clock::kBlock / 4;
  uint32_t words[4][kDraws];
  for (int i = 0; i < kDraws; ++i) {
    uint32_t a = first + static_cast<uint32_t>(i), b = position, c = domain, d = stream;
    philox_rounds(a, b, c, d, k0, k1);
    words[0][i] = a, words[1][i] = b, words[2][i] = c, words[3][i] = d;
  }
  float bounds[4][kDraws];
  for (int j = 0; j < 4; ++j)
    for (int i = 0; i < kDraws; ++i)
      bounds[j][i] = -kLn2 * log2_fast(minimum + static_cast<float>(static_cast<int32_t>(words[j][i] >> 1)) * 0x1p-31f) + 5e-5f;
  for (int i = 0; i < kDraws; ++i)
    for (int j = 0; j < 4; ++j) out[4 * i + j] = bounds[j][i];
}

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  philox_rounds(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return counter;
}

double uniform(uint64_t seed, uint32_t position, Domain domain, uint32_t index) {
  const auto bits = philox({index, position, static_cast<uint32_t>(domain), 0}, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return unit(bits[0], bits[1]);
}

std::array<uint32_t, 4> Clock::draw(uint32_t index, Stream stream) const { return philox({index, position_, domain_, stream}, key_); }

Clock::Minimum Clock::minimum(int32_t block) const {
  const auto bits = draw(static_cast<uint32_t>(block), kMinimum);
  return {exponential(bits[0], bits[1]) / kBlock, block * kBlock + static_cast<Token>(bits[2] % kBlock)};
}

double Clock::operator()(Token token, const Minimum& minimum) const {
  if (token == minimum.token) return minimum.value;
  const auto index = static_cast<uint32_t>(token) / 4, word = static_cast<uint32_t>(token) % 4;
  return minimum.value + exponential(draw(index, kHigh)[word], draw(index, kLow)[word]);
}

double Clock::operator()(Token token) const { return (*this)(token, minimum(token / kBlock)); }

void Clock::bound(size_t n_blocks, Bounds& bounds) const {
  bounds.greatest.resize(n_blocks);
  bounds.least.resize(n_blocks);
  bounds.leader.resize(n_blocks);
  sweep_bounds(key_[0], key_[1], position_, domain_, kMinimum, static_cast<int32_t>(n_blocks), bounds.greatest.data(), bounds.least.data(),
               bounds.leader.data());
}

void Clock::noise_bounds(int32_t block, const Minimum& minimum, std::span<float, kBlock> out) const {
  sweep_block(key_[0], key_[1], position_, domain_, kHigh, static_cast<uint32_t>(block) * (kBlock / 4), static_cast<float>(minimum.value),
              out.data());
}

}  // namespace ersd
