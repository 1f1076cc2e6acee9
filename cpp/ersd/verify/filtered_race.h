// Races among the tokens that a filter allows. A grammar takes its time over a vocabulary, so it is
// asked about few tokens: the first arrival that it allows wins, whatever it says of later ones,
// unless truncation, which comes after it, removes that token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/race/race.h"
#include "ersd/verify/logits_processor.h"

namespace ersd {

class FilteredRace {
 public:
  // The winner of the race over mask(logits), found without asking about every token where that can
  // be. Throws std::runtime_error where no token that has a probability is allowed.
  Token winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
               const Allowed& allowed);

  // A copy with -infinity for every token that is not allowed; f32[n_vocab]. Valid until the next
  // call. Throws as winner().
  std::span<const float> mask(std::span<const float> logits, const Allowed& allowed);

 private:
  enum Known : uint8_t { kUnknown, kAllowed, kRefused };
  enum class Kept { kYes, kNo, kUnknown };

  Token race_all(const SamplingOptions& options, const Clock& clock);
  void mask_rest();
  void start(std::span<const float> logits, const Allowed& allowed);
  void ask();
  void ask_down_to(float least);
  void find_allowed(float least);
  Kept kept(float logit, const SamplingOptions& options);
  Kept verdict(float logit, float least, const SamplingOptions& options);

  Race race_;
  Row row_;
  Truncation truncation_;
  const Allowed* allowed_ = nullptr;
  double total_ = 0;                      // exp_sum of the row
  std::vector<uint8_t> known_, answers_;  // Known of each token; of the tokens that are asked about
  std::vector<Token> asked_;
  std::vector<float> allowed_logits_;  // of allowed tokens, the greatest first
  std::vector<float> masked_;
};

}  // namespace ersd
