// A draft that corrects itself: where the target's distribution was found to differ from the draft's, the draft's logits are moved towards it
// from then on. Races allow it: the draft changes what is proposed, never what is emitted.
#pragma once

#include <span>
#include <vector>

#include "ersd/noise.h"
#include "ersd/sampling.h"

namespace ersd {

// One number for each token, added to every row of the draft's logits: gradient steps on the divergence of the two distributions.
class Correction {
 public:
  // Adds itself to a row; f32[n_vocab].
  void apply(std::span<float> row) const {
    for (const Token token : corrected_) row[static_cast<size_t>(token)] += bias_[static_cast<size_t>(token)];
  }

  // A verified position: bias += target_prob - draft_prob, for the tokens where they differ by more than 0.002, and never beyond 4 in logits.
  // target, draft: logits, f32[n_vocab] each, the draft's with the correction in them. Probabilities are those at the temperature, or at 0.5
  // where that is less. Tokens that the draft does not have are left out.
  void observe(std::span<const float> target, std::span<const float> draft, float temperature);

  std::span<const float> bias() const { return bias_; }  // f32[n_vocab], empty before the first position

 private:
  std::vector<float> bias_;
  std::vector<Token> corrected_;  // where it is not 0
  Row row_;
  std::vector<float> target_, draft_;  // weights of probabilities
  std::vector<int32_t> places_;        // of tokens that differ
};

}  // namespace ersd
