// The exponential race: tokens arrive in the order of clock / probability, so the winner is a sample and the first m arrivals are m
// samples without replacement. E / p is least where logit / T - log E is greatest, so nothing has to be normalised.
#pragma once

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
// A pass over the logits finds the maximum of each block; with the bound on its noise (Clock::noise_bounds) that says which blocks can
// still arrive, and clocks are computed in those alone. The result is that of computing every clock: no bound is approximate.
class Race {
 public:
  // The token of the highest score; the lowest of equal ones. Throws std::runtime_error where no logit is above -infinity.
  Arrival winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock);

  // The first m arrivals in order, fewer where fewer tokens are kept. Valid until the next race.
  std::span<const Arrival> arrivals(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m);

 private:
  void run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m);
  void visit(int32_t block, const SamplingOptions& options, const Clock& clock, size_t m, float cutoff);
  void offer(Arrival arrival, size_t m);

  Row row_;
  Truncation truncation_;
  std::vector<float> bounds_;      // f32[n_blocks]: no token of the block scores more
  std::vector<int32_t> order_;     // i32[n_blocks]: heap of blocks by bound
  std::vector<Arrival> arrivals_;  // a heap while the race runs, the least on top
};

}  // namespace ersd
