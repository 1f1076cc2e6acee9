// Log-softmax of one row of logits.
#include "ersd/race/logprobs.h"

#include <algorithm>
#include <cmath>

namespace ersd {

TokenLogprob Logprobs::operator()(std::span<const float> logits, Token token, int32_t n) {
  row_.read(logits);
  const float maximum = row_.maximum();
  const double log_sum = std::log(exp_sum(logits, maximum));
  const auto logprob = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - maximum - log_sum);
  };
  TokenLogprob out{token, logprob(logits[static_cast<size_t>(token)]), {}};
  if (n <= 0) return out;
  const float least = truncation_.cutoff(row_, {1, n, 1, 0});
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] >= least) out.top.emplace_back(static_cast<Token>(i), logits[i]);
  std::stable_sort(out.top.begin(), out.top.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (out.top.size() > static_cast<size_t>(n)) out.top.resize(static_cast<size_t>(n));
  for (auto& [_, value] : out.top) value = logprob(value);
  return out;
}

}  // namespace ersd
