// Rows of logits, and truncation by one cutoff: top-k, top-p and min-p. Truncation that no cutoff
// expresses is in selection.h. The same code serves target and draft.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ersd {

// llama.cpp's names, meaning and order: top-k, typical-p, top-p, min-p and XTC act on the logits,
// the temperature after them.
struct SamplingOptions {
  float temperature = 0.8f;  // 0: the most probable token
  int32_t top_k = 40;        // keep the k most probable tokens; 0 or less: all
  float top_p = 0.95f;       // keep the fewest tokens whose probabilities sum to p; 1 or more: all
  float min_p =
      0.05f;  // keep tokens at least min_p times as probable as the most probable one; 0: all
  // Keep the tokens whose surprise is nearest to the expected one, as many as sum to this
  // probability; 1 or more: all.
  float typical_p = 1;
  // "Exclude top choices": how often, of the tokens that are at least as probable as the threshold,
  // all but the least probable one are removed.
  float xtc_probability = 0;
  float xtc_threshold = 0.1f;  // above 0.5, where no two tokens can be, it is off

  // Throws std::invalid_argument naming the option, what was expected and what came.
  void validate() const;

  // Whether what is kept lies between no two logits: then it takes a Selection.
  bool selects() const {
    return temperature > 0 && (typical_p < 1 || (xtc_probability > 0 && xtc_threshold <= 0.5f));
  }
  bool truncates() const {
    return temperature > 0 && (top_k > 0 || top_p < 1 || min_p > 0 || selects());
  }
  SamplingOptions without_truncation() const { return {temperature, 0, 1, 0}; }
};

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

// Returns the sum of exp(logit - maximum) with a relative error of at most 2e-7. NaN and -infinity
// add nothing. No logit may be greater than maximum.
double exp_sum(std::span<const float> logits, float maximum);

}  // namespace ersd
