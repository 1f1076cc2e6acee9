// Log-probabilities of emitted tokens, by the model's own logits at temperature 1, before any
// option shapes them.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "ersd/race/noise.h"
#include "ersd/race/sampling.h"

namespace ersd {

struct TokenLogprob {
  Token token;
  float logprob;  // log-softmax of the logits
  std::vector<std::pair<Token, float>>
      top;  // the most probable tokens, the lower of equal ones first, and their log-probabilities
};

class Logprobs {
 public:
  // Of a token and of the n most probable ones, by a row of logits; f32[n_vocab]. A pure function
  // of its arguments.
  TokenLogprob operator()(std::span<const float> logits, Token token, int32_t n);

 private:
  Row row_;
  Truncation truncation_;
};

}  // namespace ersd
