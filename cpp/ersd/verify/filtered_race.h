// Races among the tokens that a filter allows. A grammar needs much time for a whole vocabulary, so
// it is asked about few tokens: the first arrival that it allows wins, and later arrivals do not
// matter. If truncation, which comes after the filter, removes that token, more tokens are tried.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/race/race.h"
#include "ersd/verify/logits_processor.h"

namespace ersd {

class FilteredRace {
 public:
  // Returns the winner of the race over mask(logits). Asks about few tokens if that suffices.
  // Throws std::runtime_error if no allowed token has a probability.
  Token winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
               const Allowed& allowed);

  // Returns a copy of the row with -infinity for every token that is not allowed; f32[n_vocab].
  // Valid until the next call. Throws as winner() does.
  std::span<const float> mask(std::span<const float> logits, const Allowed& allowed);

 private:
  enum Answer : uint8_t { kNotAsked, kAllowed, kRefused };
  enum class Kept { kYes, kNo, kUncertain };

  void begin(std::span<const float> logits, const Allowed& allowed);
  void ask();
  void ask_down_to(float least);
  void mask_all();
  Token race_all(const SamplingOptions& options, const Clock& clock);
  Kept check_kept(float logit, const SamplingOptions& options);
  Kept check_kept(float logit, float least, const SamplingOptions& options);
  Kept check_top_p(size_t n_above, float least, size_t top_k, double top_p);
  void find_allowed(float least);
  double asked_sum(float least) const;

  Race race_;
  Row row_;
  Truncation truncation_;
  const Allowed* allowed_ = nullptr;
  double total_ = 0;                   // exp_sum of the row; -1 if it has not been computed
  std::vector<uint8_t> answers_;       // Answer of each token of the vocabulary
  std::vector<Token> asked_;           // tokens to ask the filter about
  std::vector<uint8_t> replies_;       // the filter's reply to each of asked_
  std::vector<float> allowed_logits_;  // logits of allowed tokens, the greatest first
  std::vector<float> masked_;          // f32[n_vocab]
};

}  // namespace ersd
