// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): 128 random
// bits as a pure function of a counter and a key.
#pragma once

#include <array>
#include <cstdint>

namespace ersd {

constexpr uint32_t kPhiloxRounds = 10;
constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53, kPhiloxMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9, kPhiloxWeyl1 = 0xBB67AE85;  // added to the key

// Turns the four words of a counter into four random words. Each word is in the lower half of 64
// bits. The upper halves hold garbage afterwards, because every round reads the lower halves alone.
inline void philox_rounds(uint64_t& a, uint64_t& b, uint64_t& c, uint64_t& d, uint32_t key0,
                          uint32_t key1) {
#if defined(__GNUC__)
#pragma GCC unroll 10
#endif
  for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxMultiplier0) * static_cast<uint32_t>(a),
                   p1 = static_cast<uint64_t>(kPhiloxMultiplier1) * static_cast<uint32_t>(c);
    a = (p1 >> 32) ^ b ^ (key0 + round * kPhiloxWeyl0);
    c = (p0 >> 32) ^ d ^ (key1 + round * kPhiloxWeyl1);
    b = p1;
    d = p0;
  }
}

// Returns the four random words of a counter and a key.
inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                      std::array<uint32_t, 2> key) {
  uint64_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
  philox_rounds(a, b, c, d, key[0], key[1]);
  return {static_cast<uint32_t>(a), static_cast<uint32_t>(b), static_cast<uint32_t>(c),
          static_cast<uint32_t>(d)};
}

}  // namespace ersd
