// The exponential race: tokens arrive in the order of clock / probability, so the winner is a
// sample and the first m arrivals are m samples without replacement. E / p is least where logit / T
// - log E is greatest, so nothing has to be normalised.
#pragma once

#include <array>
#include <limits>
#include <span>
#include <vector>

#include "ersd/race/noise.h"
#include "ersd/race/sampling.h"

namespace ersd {

struct Arrival {
  Token token;
  double score;  // logit / T - log(clock); at temperature 0 the logit
};

// Runs races; holds only working memory, which it keeps from one to the next. One thread at a time.
//
// A pass over the logits finds the maximum of each block; with the noise of the block's least clock
// that says how early any of its tokens can arrive. The maxima and the tokens with the least clocks
// tell a score that m tokens probably reach; every token that might reach it is raced, and where
// they turn out to be fewer than m, the race is run again from lower down. The result is that of
// computing every clock: no bound is approximate.
class Race {
 public:
  static constexpr size_t kPositions =
      32;  // whose draws are kept: those of a draft's races serve the target's

  // The token of the highest score; the lowest of equal ones. Throws std::runtime_error where no
  // logit is above -infinity.
  Arrival winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock);

  // The first m arrivals in order, fewer where fewer tokens are kept, none where no logit is above
  // -infinity. Valid until the next race.
  std::span<const Arrival> arrivals(std::span<const float> logits, const SamplingOptions& options,
                                    const Clock& clock, size_t m);

  // The place of a token among the first m arrivals, 0 the first; m where it is not among them.
  size_t rank(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
              Token token, size_t m);

 private:
  static constexpr float kNone = -std::numeric_limits<float>::infinity();

  // floor: a score below which nothing is of interest. Leaves the first m arrivals, in any order.
  void run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
           size_t m, float floor = kNone);
  bool race_kept(const SamplingOptions& options, const Clock& clock, float cutoff);
  const Clock::Draws& drawn(const Clock& clock, size_t n_blocks);
  void bound(float temperature, const Clock& clock, float cutoff);
  float promising(float temperature, size_t m);
  float least_logit(float temperature, float cutoff, float score, size_t block) const;
  void race_blocks(float temperature, const Clock& clock, size_t m, float cutoff, float floor);
  void race(float temperature, const Clock& clock, size_t n, float floor);
  size_t drop_late(float temperature, size_t n, float floor);
  void keep_first(size_t m);

  Row row_;
  Truncation truncation_;
  struct Drawn {
    Clock clock{0, 0};
    size_t n_blocks = 0;
    Clock::Draws blocks;
  };
  std::array<Drawn, kPositions> drawn_;    // by position
  Clock::Draws silent_, draws_;            // of blocks at temperature 0; of tokens_
  const Clock::Draws* blocks_ = &silent_;  // of the row's blocks
  std::vector<float> block_bounds_;        // f32[n_blocks]: no token of the block scores more
  std::vector<int32_t> reached_;  // i32[n_blocks + kIndexSlack]: blocks that promise enough
  std::vector<float>
      likely_;  // f32[2 n_blocks]: scores that tokens of the blocks are likely to have
  std::vector<Token> tokens_;   // to be raced, at most kChunk at a time,
  std::vector<float> bounds_;   // their bounds,
  std::vector<int32_t> early_;  // those whose bounds promise enough,
  std::vector<double> clocks_;  // and their clocks, then scores
  std::vector<Arrival> arrivals_;
};

}  // namespace ersd
