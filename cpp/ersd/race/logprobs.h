// Log-probabilities of emitted tokens. They come from the model's own logits at temperature 1,
// before truncation or any other option changes them.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "ersd/race/noise.h"
#include "ersd/race/truncation.h"

namespace ersd {

struct TokenLogprob {
  Token token;
  float logprob;  // log-softmax of the logits
  // The most probable tokens with their log-probabilities, of equal ones the lower token first.
  std::vector<std::pair<Token, float>> top;
};

class Logprobs {
 public:
  // Returns the log-probabilities of a token and of the n most probable tokens. It is a pure
  // function of its arguments. logits: f32[n_vocab].
  TokenLogprob operator()(std::span<const float> logits, Token token, int32_t n);

 private:
  Row row_;  // working memory
  Truncation truncation_;
};

}  // namespace ersd
