// The exponential race: tokens arrive in the order of clock / probability. The winner is a sample,
// and the first m arrivals are m samples without replacement. E / p is least where logit / T - log
// E is greatest, so nothing has to be normalised.
#pragma once

#include <array>
#include <limits>
#include <span>
#include <vector>

#include "ersd/race/noise.h"
#include "ersd/race/truncation.h"

namespace ersd {

struct Arrival {
  Token token;
  double score;  // logit / T - log(clock); at temperature 0 the logit
};

// Runs races. It keeps only working memory and the draws of recent positions. It serves one thread
// at a time.
//
// One pass over the logits finds the maximum of each block. With the block's least clock, this
// bounds the scores of the block's tokens. The maxima and the tokens with the least clocks suggest
// a score that m tokens probably reach. Every token that may reach it is raced. If fewer than m
// tokens do, the race is run again with a lower score. The result equals that of computing every
// clock, because no bound is approximate.
class Race {
 public:
  // The draws of this many positions are kept, because the target races where the draft has raced.
  static constexpr size_t kCachedPositions = 32;

  // Returns the token of the highest score, the lowest token of equal scores. Throws
  // std::runtime_error if no logit is above -infinity.
  Arrival winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock);

  // Returns the first m arrivals in order. They are fewer if fewer tokens are kept, and none if no
  // logit is above -infinity. The result is valid until the next race.
  std::span<const Arrival> arrivals(std::span<const float> logits, const SamplingOptions& options,
                                    const Clock& clock, size_t m);

  // Returns the place of a token among the first m arrivals, counted from 0, or m if it is not
  // among them.
  size_t rank(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
              Token token, size_t m);

 private:
  static constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

  struct CachedDraws {
    Clock clock{0, 0};
    size_t n_blocks = 0;
    Clock::Draws blocks;
  };

  void run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
           size_t m, float least_score = kMinusInfinity);
  bool race_if_few(const SamplingOptions& options, const Clock& clock, float cutoff);
  const Clock::Draws& draw_blocks_once(const Clock& clock, size_t n_blocks);
  void bound_blocks(float temperature, const Clock& clock, float cutoff);
  float guess_score(float temperature, size_t m);
  float least_logit(float temperature, float cutoff, float score, size_t block) const;
  void race_blocks(float temperature, const Clock& clock, size_t m, float cutoff,
                   float least_score);
  void race_tokens(float temperature, const Clock& clock, size_t n, float least_score);
  size_t drop_late_tokens(float temperature, size_t n, float least_score);
  void keep_first(size_t m);

  Row row_;
  Truncation truncation_;
  std::array<CachedDraws, kCachedPositions> cached_draws_;  // at position % kCachedPositions
  Clock::Draws no_noise_;                                   // zeros, for temperature 0
  const Clock::Draws* block_draws_ = &no_noise_;            // of the row's blocks
  std::vector<float> block_bounds_;    // f32[n_blocks], no token of the block scores more
  std::vector<int32_t> open_blocks_;   // i32[n_blocks + kIndexSlack], may hold an arrival
  std::vector<float> likely_scores_;   // f32[2 n_blocks], that tokens probably have
  std::vector<Token> tokens_;          // i32[kChunk + kIndexSlack or more], raced together
  Clock::Draws token_draws_;           // of tokens_
  std::vector<float> token_bounds_;    // f32[kChunk], tokens_ score no more
  std::vector<int32_t> early_tokens_;  // i32[kChunk + kIndexSlack], indices into tokens_
  std::vector<double> clocks_;         // f64[kChunk], of tokens_; then their scores
  std::vector<Arrival> arrivals_;
};

}  // namespace ersd
