// Clocks: one Exp(1) variate for each (seed, position, token), a pure function of the three.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ersd/token.h"

namespace ersd {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): 128 random
// bits for a counter and a key.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// What a draw is for: draws of different domains are independent.
enum class Domain : uint32_t {
  kRace = 0,        // the clocks that draft and target share
  kSiblings = 1,    // the draft's own order, in rejection sampling
  kAcceptance = 2,  // whether a sibling is accepted
  kResidual = 3,    // the token where none is
  kXtc = 4,         // whether XTC acts at a position
};

// A uniform variate in (0, 1), a pure function of its arguments.
double uniform(uint64_t seed, uint32_t position, Domain domain, uint32_t index);

// All clocks of one position.
//
// The clocks of a block of B tokens are drawn from their minimum downwards, which gives the same
// i.i.d. Exp(1) variates as drawing them one by one: the minimum is Exp(B), its place is uniform,
// and by memorylessness every other clock is the minimum plus a fresh Exp(1). So one draw bounds a
// whole block, and a race can pass over the blocks that cannot win (race.h).
class Clock {
 public:
  static constexpr int32_t kBlock = 128;

  Clock(uint64_t seed, uint32_t position, Domain domain = Domain::kRace)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        position_(position),
        domain_(static_cast<uint32_t>(domain)) {}

  uint32_t position() const { return position_; }
  bool operator==(const Clock&) const = default;

  // The clock of a token, > 0. Pure and thread safe; defined for every token >= 0, whatever the
  // vocabulary. The same bits on every machine.
  double operator()(Token token) const;

  // 64 random bits each, in two arrays, and what they say of the noise, -log(clock), before any
  // logarithm is taken.
  struct Draws {
    std::vector<uint32_t> high, low;  // u32[n or more]
    std::vector<float> noise;  // f32[n or more]: at least the noise, and within 0.07 where a token
                               // or block may win by it
    void fit(size_t n) {       // never shrinks, so that nothing is cleared to be written over
      if (n > high.size()) high.resize(n), low.resize(n), noise.resize(n);
    }
  };

  // The draws of blocks 0 to n_blocks - 1 and the noise of their least clocks.
  void draw_blocks(size_t n_blocks, Draws& blocks) const;

  // The token that has the least clock of its block.
  static Token leader(const Draws& blocks, size_t block) {
    return static_cast<Token>(block) * kBlock + static_cast<Token>(blocks.low[block] % kBlock);
  }

  // The draws of tokens, whose blocks' are given.
  void draw_tokens(std::span<const Token> tokens, const Draws& blocks, Draws& draws) const;

  // Their clocks, bit for bit those of operator(); f64[tokens.size()].
  static void clocks(std::span<const Token> tokens, const Draws& blocks, const Draws& draws,
                     std::span<double> out);

 private:
  enum Stream : uint32_t { kBlocks = 0, kTokens = 1 };  // keep the draws of one position apart

  std::array<uint32_t, 2> key_;
  uint32_t position_, domain_;
};

}  // namespace ersd
