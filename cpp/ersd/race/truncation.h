// Rows of logits, and truncation by one cutoff: top-k, top-p and min-p. Truncation that no cutoff
// expresses is in selection.h. The same code serves target and draft.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/race/sampling_options.h"

namespace ersd {

// A row of logits, and the maximum of each block of 128 (Clock::kBlock) of them. NaN counts as
// -infinity.
class Row {
 public:
  // Finds the maxima in one pass. The logits are not copied and must outlive the use of the row.
  void read(std::span<const float> logits);

  std::span<const float> logits() const { return logits_; }  // f32[n_vocab]
  std::span<const float> maxima() const { return maxima_; }  // f32[ceil(n_vocab / 128)]
  std::span<const float> block(int32_t b) const;             // f32[128], the last one shorter
  float maximum() const { return maximum_; }  // -infinity if no token has a probability

 private:
  std::span<const float> logits_;
  std::vector<float> maxima_;
  float maximum_ = 0;
};

// Truncation as one number: top-k, top-p and min-p each keep the tokens whose logit is at least
// some cutoff. Only the tokens that may be kept are sorted. Tokens whose logit equals the cutoff
// are all kept, so the result does not depend on any order.
class Truncation {
 public:
  // Returns the least logit that is kept, or -infinity if all are kept. At temperature 0 all are
  // kept, because the winner is the maximum anyway.
  float cutoff(const Row& row, const SamplingOptions& options);

 private:
  float top_k_top_p_cutoff(const Row& row, const SamplingOptions& options);
  void gather_candidates(const Row& row, float least);

  std::vector<float> candidates_;  // logits that may be kept
  std::vector<int32_t> blocks_;    // working memory: blocks that hold candidates
  std::vector<int32_t> indices_;   // working memory: candidates within one block
};

// Returns a value that at least k of x reach, but not many more unless they are equal. It is
// -infinity if x has fewer values. NaN counts as -infinity.
float kth_greatest_or_less(std::span<const float> x, size_t k);

// Returns the sum of non-negative weights with a relative error of at most 1e-5.
double sum(std::span<const float> weights);

// Writes weights in proportion to the probabilities of a row under these options, and returns their
// sum. The greatest weight is 1, and a weight is 0 if the logit is below the cutoff. The
// temperature must not be 0, and some logit must be finite. weights: f32[n_vocab].
double probability_weights(const Row& row, const SamplingOptions& options, float cutoff,
                           std::span<float> weights);

// Returns the sum of exp(scale * (logit - maximum)) with a relative error of at most 2e-7. NaN and
// -infinity add nothing. No logit may be greater than maximum, and scale must be positive.
double exp_sum(std::span<const float> logits, float maximum, float scale = 1);

}  // namespace ersd
