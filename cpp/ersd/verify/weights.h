// A row of probabilities as weights, for rejection sampling: what is left of it, and draws from it.
#pragma once

#include <span>
#include <vector>

#include "ersd/race/truncation.h"
#include "ersd/token.h"

namespace ersd {

// It keeps its memory from row to row. One thread at a time.
class Weights {
 public:
  // Reads the probabilities of a row under these options, whose temperature is above 0. Their total
  // is 0 if no logit is finite. logits: f32[n].
  void read(std::span<const float> logits, const SamplingOptions& options);

  size_t size() const { return values_.size(); }
  float operator[](Token token) const { return values_[static_cast<size_t>(token)]; }
  double total() const { return total_; }
  double probability(Token token) const { return (*this)[token] / total_; }

  // Takes a token out.
  void remove(Token token);

  // Makes the row what is left of `share` times its probabilities without those of another row:
  // max(share * probability - other probability, 0). The other row may be shorter.
  void subtract(double share, const Weights& other);

  // Returns the token at which the running sum of the weights passes the share u of their total.
  // The first one prepares draws of this row, which the second one uses.
  void accumulate();
  Token draw(double u) const;

 private:
  Row row_;
  Truncation truncation_;
  std::vector<float> values_;       // f32[n]
  std::vector<double> cumulative_;  // f64[n_blocks + 1], sums of weights before each block
  double total_ = 0;
};

// Throws std::runtime_error if no token of the target has a probability.
void check_target(const Weights& target);

}  // namespace ersd
