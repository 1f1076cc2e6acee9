// Clocks: one Exp(1) variate for each (seed, position, token), a pure function of the three.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace ersd {

using Token = int32_t;

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): 128 random bits for a counter and a key.
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
// The clocks of a block of B = 128 tokens are drawn from their minimum downwards, which gives the same i.i.d. Exp(1) variates as
// drawing them one by one: the minimum is Exp(B), its place is uniform, and by memorylessness every other clock is the minimum
// plus a fresh Exp(1). So one draw bounds a whole block, and a race can pass over the blocks that cannot win (race.h).
class Clock {
 public:
  static constexpr int32_t kBlock = 128;

  Clock(uint64_t seed, uint32_t position, Domain domain = Domain::kRace)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}, position_(position), domain_(static_cast<uint32_t>(domain)) {}

  // The clock of a token, > 0. Pure and thread safe; defined for every token >= 0, whatever the vocabulary.
  double operator()(Token token) const;

  // The least clock of a block (tokens block * 128 to block * 128 + 127) and the token that has it.
  struct Minimum {
    double value;
    Token token;
  };
  Minimum minimum(int32_t block) const;

  // The clock of a token whose block's minimum is known already.
  double operator()(Token token, const Minimum& minimum) const;

  // What is known of every block at once, without a logarithm each. Arrays of n_blocks.
  struct Bounds {
    std::vector<float> greatest;  // f32: at least -log(minimum(b).value), and near it where that is large
    std::vector<float> least;     // f32: at most that, and as near where it is large; -1e30 where it is small
    std::vector<Token> leader;    // i32: minimum(b).token
  };
  void bound(size_t n_blocks, Bounds& bounds) const;

  // out[i] >= -log(clock) of the tokens of one block, but for the one that has the minimum; f32[128].
  void noise_bounds(int32_t block, const Minimum& minimum, std::span<float, kBlock> out) const;

 private:
  // Streams keep the draws of one position apart.
  enum Stream : uint32_t { kMinimum = 0, kHigh = 1, kLow = 2 };
  std::array<uint32_t, 4> draw(uint32_t index, Stream stream) const;

  std::array<uint32_t, 2> key_;
  uint32_t position_, domain_;
};

}  // namespace ersd
