// What sampling options keep of a row of logits, as far as one cutoff says it:
// temperature, top-k, top-p, min-p. What needs more is in selection.h. The same code serves target
// and draft.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/race/sampling_options.h"

namespace ersd {

// A row of logits and the maximum of each block of 128 (Clock::kBlock) of them, found in one pass.
// NaN counts as -infinity.
class Row {
 public:
  // The logits are read where they are and must outlive the row's use.
  void read(std::span<const float> logits);

  std::span<const float> logits() const { return logits_; }  // f32[n_vocab]
  std::span<const float> maxima() const { return maxima_; }  // f32[ceil(n_vocab / 128)]
  std::span<const float> block(int32_t b) const;             // f32[128], the last one shorter
  float maximum() const { return maximum_; }  // -infinity where no token has a probability

 private:
  std::span<const float> logits_;
  std::vector<float> maxima_;
  float maximum_ = 0;
};

// Truncation as one number: top-k, top-p and min-p each keep the tokens whose logit is at least
// some cutoff. Nothing is sorted but the tokens that may be kept. Tokens with exactly the cutoff's
// logit are all kept, so the answer does not depend on any order.
class Truncation {
 public:
  // The least logit that is kept; -infinity where all are. At temperature 0 nothing is cut: the
  // winner is the maximum anyway.
  float cutoff(const Row& row, const SamplingOptions& options);

 private:
  float top_k_p(const Row& row, const SamplingOptions& options);
  void gather(const Row& row, float least);  // the logits that are at least this into candidates_

  std::vector<float> candidates_;
  std::vector<int32_t> places_, found_;  // blocks that hold candidates; candidates within one
};

// A value that at least k of x reach, and not many more where they differ; -infinity where x has
// fewer. NaN counts as -infinity.
float reached_by(std::span<const float> x, size_t k);

// The sum of weights that are not negative, within 1e-5 of it.
double sum(std::span<const float> weights);

// weights: f32[n_vocab], in proportion to the probabilities that these options leave to a row, 0
// where a logit is below the cutoff; the greatest is 1. Returns their sum. The temperature must not
// be 0, and some logit finite.
double probability_weights(const Row& row, const SamplingOptions& options, float cutoff,
                           std::span<float> weights);

// The sum of exp(logit - maximum) within 2e-7 relatively, NaN and -infinity counting nothing.
// maximum: at least every logit.
double exp_sum(std::span<const float> logits, float maximum);

}  // namespace ersd
