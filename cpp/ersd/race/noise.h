// Clocks: one Exp(1) variate for each (seed, position, token), a pure function of the three.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ersd/token.h"

namespace ersd {

// The purpose of a draw. Draws of different domains are independent.
enum class Domain : uint32_t {
  kRace = 0,        // the clocks that draft and target share
  kSiblings = 1,    // the order in which rejection sampling tries the draft's tokens
  kAcceptance = 2,  // whether rejection sampling accepts a sibling
  kResidual = 3,    // the token that rejection sampling emits if it accepts no sibling
  kXtc = 4,         // whether XTC acts at a position
};

// Returns a uniform variate in (0, 1), a pure function of the arguments.
double uniform(uint64_t seed, uint32_t position, Domain domain, uint32_t index);

// All clocks of one position.
//
// For each block of B tokens, the least of its clocks is drawn first. It is Exp(B), and the token
// that has it is uniform in the block. By memorylessness, every other clock of the block is the
// least one plus a fresh Exp(1). This gives the same i.i.d. Exp(1) variates as drawing them one by
// one. One draw then bounds a whole block, so a race can skip the blocks that cannot win (race.h).
class Clock {
 public:
  static constexpr int32_t kBlock = 128;

  Clock(uint64_t seed, uint32_t position, Domain domain = Domain::kRace)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        position_(position),
        domain_(static_cast<uint32_t>(domain)) {}

  uint32_t position() const { return position_; }
  bool operator==(const Clock&) const = default;

  // Returns the clock of a token, which is above 0. It is defined for every token >= 0, whatever
  // the vocabulary. It is pure, thread safe, and has the same bits on every machine.
  double operator()(Token token) const;

  // The random bits of some blocks or tokens, before any logarithm is taken.
  struct Draws {
    std::vector<uint32_t> high, low;  // u32[n or more], two halves of 64 random bits
    // f32[n or more], at least the noise -log(clock). The bound exceeds the noise by at most 0.07
    // where the noise is great enough for a block or token to win by it.
    std::vector<float> noise_bounds;

    // Makes room for n draws. It never shrinks, because growing again would clear the new room.
    void fit(size_t n) {
      if (n > high.size()) high.resize(n), low.resize(n), noise_bounds.resize(n);
    }
  };

  // Draws the least clocks of blocks 0 to n_blocks - 1.
  void draw_blocks(size_t n_blocks, Draws& blocks) const;

  // The token that has the least clock of a block.
  static Token earliest_token(const Draws& blocks, size_t block) {
    return static_cast<Token>(block) * kBlock + static_cast<Token>(blocks.low[block] % kBlock);
  }

  // Draws tokens. The draws of their blocks must be given.
  void draw_tokens(std::span<const Token> tokens, const Draws& blocks, Draws& draws) const;

  // Computes the clocks of tokens from their draws. They equal those of operator() bit for bit.
  // out: f64[tokens.size()].
  static void compute_clocks(std::span<const Token> tokens, const Draws& blocks, const Draws& draws,
                             std::span<double> out);

 private:
  std::array<uint32_t, 2> key_;
  uint32_t position_, domain_;
};

}  // namespace ersd
