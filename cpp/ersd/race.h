// The exponential race: tokens arrive in the order of clock / probability, so the winner is a sample and the first m arrivals are m
// samples without replacement. E / p is least where logit / T - log E is greatest, so nothing has to be normalised.
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <vector>

#include "ersd/noise.h"
#include "ersd/sampling.h"

namespace ersd {

struct Arrival {
  Token token;
  double score;  // logit / T - log(clock); at temperature 0 the logit
};

// Runs races; holds only working memory, which it keeps from one to the next. One thread at a time.
//
// A pass over the logits finds the maximum of each block; with the bounds on its noise (Clock::bound) that says which blocks can still
// arrive, and clocks are computed in those alone. The result is that of computing every clock: no bound is approximate.
class Race {
 public:
  // The token of the highest score; the lowest of equal ones. Throws std::runtime_error where no logit is above -infinity.
  Arrival winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock);

  // The first m arrivals in order, fewer where fewer tokens are kept, none where no logit is above -infinity. Valid until the next race.
  std::span<const Arrival> arrivals(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m);

  // The place of a token among the first m arrivals, 0 the first; m where it is not among them.
  size_t rank(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, Token token, size_t m);

 private:
  static constexpr double kNoFloor = -std::numeric_limits<double>::infinity();

  // floor: a score below which nothing is of interest.
  void run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m, double floor = kNoFloor);
  void find_floor(float temperature, size_t m, float cutoff);
  void visit(int32_t block, const SamplingOptions& options, const Clock& clock, size_t m, float cutoff);
  void offer(Arrival arrival, size_t m);
  // The score that it takes to be among the first m, as far as it is known.
  double last(size_t m) const { return arrivals_.size() == m ? std::max(floor_, arrivals_.front().score) : floor_; }

  Row row_;
  Truncation truncation_;
  Clock::Bounds bounds_;                           // the noise of each block
  std::vector<float> block_bounds_;                // f32[n_blocks]: no token of the block scores more
  std::array<float, Clock::kBlock> token_bounds_;  // f32[128]: the same for the tokens of one block
  std::vector<float> scores_;                      // lower bounds of the leaders' scores
  std::vector<Arrival> arrivals_;                  // a heap while the race runs, the least on top
  double floor_ = 0;                               // a score that every arrival of interest reaches
};

}  // namespace ersd
