// A draft that corrects itself: where the target's distribution was found to differ from the
// draft's, the draft's logits are moved towards it from then on. Races allow it: the draft changes
// what is proposed, never what is emitted.
#pragma once

#include <cstddef>
#include <span>
#include <unordered_map>
#include <vector>

#include "ersd/race/noise.h"
#include "ersd/race/sampling.h"

namespace ersd {

// Two numbers for a token are added to its logit in every row of the draft: one whatever stands
// before it, one for the token just before it. Both are gradient steps on the divergence of the two
// distributions, shorter where there have been many (AdaGrad: Duchi, Hazan and Singer, 2011).
class Correction {
 public:
  static constexpr Token kAny = -1;  // as `before`: whatever stands there

  // One of these numbers, and the sum of the squared differences of probability that it came from.
  struct Entry {
    Token token;
    float bias, squares;
  };

  // Adds itself to the logits of the token after `before`; f32[n_vocab].
  void apply(Token before, std::span<float> row) const;

  // A verified position: bias += 0.7 * T * d / sqrt(0.03 + squares), for the tokens whose
  // probabilities under target and draft differ by more than 0.002, and never beyond 4; d is the
  // difference. target, draft: logits, f32[n_vocab] each, the draft's with the correction in them.
  // Probabilities are those at the temperature T, or at 0.5 where that is less. Tokens that the
  // draft does not have are left out.
  void learn(Token before, std::span<const float> target, std::span<const float> draft,
             float temperature);

  // The entries for a token before, kAny for those of every row, by token.
  std::span<const Entry> entries(Token before) const;
  std::vector<Token> contexts() const;  // the tokens that have some, in order, kAny among them

  // Sets them; at most 2^20 are kept in all. Throws std::invalid_argument unless tokens ascend from
  // 0 on, no bias is beyond 4, and squares are finite and not negative.
  void set(Token before, std::vector<Entry> entries);

 private:
  void difference(std::span<const float> target, std::span<const float> draft, float temperature);
  void move(std::vector<Entry>& entries, float rate);

  std::unordered_map<Token, std::vector<Entry>> entries_;  // by the token before
  size_t n_entries_ = 0;
  Row row_;
  std::vector<float> target_, draft_;  // weights of probabilities
  std::vector<Token> found_, places_;  // where the probabilities differ,
  std::vector<float> difference_;      // and how much
  std::vector<Entry> merged_;
};

}  // namespace ersd
