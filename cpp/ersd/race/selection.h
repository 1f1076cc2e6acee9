// Truncation that no cutoff expresses: typical-p keeps the tokens of typical surprise, and XTC
// removes the most probable ones.
#pragma once

#include <span>
#include <vector>

#include "ersd/race/truncation.h"

namespace ersd {

class Selection {
 public:
  // Returns a copy of the row with -infinity for every token that the options remove. It applies
  // all truncation options in their order, so only the temperature is left to apply. Tokens of
  // equal logits are kept or removed together. The result is valid until the next call. logits:
  // f32[n_vocab]. coin: in (0, 1); XTC acts if it is at most xtc_probability.
  std::span<const float> select(std::span<const float> logits, const SamplingOptions& options,
                                double coin);

 private:
  struct Candidate {
    size_t token;
    double probability;
    double deviation;  // of its surprise, -log(probability), from the entropy
  };
  void remove_below(float least);
  void keep_typical(float p);
  void exclude_top(float threshold);

  Row row_;
  Truncation truncation_;
  std::vector<float> kept_;            // f32[n_vocab], the result
  std::vector<Candidate> candidates_;  // all kept tokens, for typical-p
};

}  // namespace ersd
