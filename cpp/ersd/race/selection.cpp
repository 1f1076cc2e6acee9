// Typical-p (Meister et al., "Locally typical sampling", arXiv 2202.00666) and XTC, both as in
// llama.cpp.
#include "ersd/race/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ersd {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kFirstSorted = 64;  // often enough for typical-p

}  // namespace

std::span<const float> Selection::select(std::span<const float> logits,
                                         const SamplingOptions& options, double coin) {
  kept_.assign(logits.begin(), logits.end());
  row_.read(kept_);
  if (!std::isfinite(row_.maximum())) return kept_;
  const auto truncate = [&](int32_t top_k, float top_p, float min_p) {
    row_.read(kept_);
    remove_below(truncation_.cutoff(row_, {options.temperature, top_k, top_p, min_p}));
  };
  if (options.typical_p < 1) {
    truncate(options.top_k, 1, 0);
    keep_typical(options.typical_p);
    truncate(0, options.top_p, options.min_p);
  } else {
    truncate(options.top_k, options.top_p, options.min_p);
  }
  if (options.xtc_threshold <= 0.5f && coin <= options.xtc_probability)
    exclude_top(options.xtc_threshold);
  return kept_;
}

void Selection::remove_below(float least) {
  for (float& logit : kept_)
    if (!(logit >= least)) logit = kMinusInfinity;
}

void Selection::keep_typical(float p) {
  row_.read(kept_);
  const double log_sum = std::log(exp_sum(kept_, row_.maximum())) + row_.maximum();
  candidates_.clear();
  double entropy = 0;
  for (size_t i = 0; i < kept_.size(); ++i) {
    if (!(kept_[i] > kMinusInfinity)) continue;
    const double logprob = kept_[i] - log_sum, probability = std::exp(logprob);
    candidates_.push_back({i, probability, -logprob});
    entropy -= probability * logprob;
  }
  for (Candidate& c : candidates_) c.deviation = std::abs(c.deviation - entropy);
  // The candidates are sorted in growing parts, until the kept ones sum to p.
  const auto nearer = [](const Candidate& a, const Candidate& b) {
    return a.deviation < b.deviation;
  };
  double sum = 0, last = std::numeric_limits<double>::infinity();
  for (size_t begin = 0, end = kFirstSorted; begin < candidates_.size(); begin = end, end *= 8) {
    end = std::min(end, candidates_.size());
    const auto at = [&](size_t i) { return candidates_.begin() + static_cast<ptrdiff_t>(i); };
    std::partial_sort(at(begin), at(end), candidates_.end(), nearer);
    for (size_t i = begin; i < end && sum <= p; ++i)
      sum += candidates_[i].probability, last = candidates_[i].deviation;
    if (sum > p) break;
  }
  for (const Candidate& c : candidates_)
    if (c.deviation > last) kept_[c.token] = kMinusInfinity;
}

void Selection::exclude_top(float threshold) {
  row_.read(kept_);
  const double least = std::log(threshold * exp_sum(kept_, row_.maximum())) + row_.maximum();
  // The least probable token that reaches the threshold is kept.
  float last = std::numeric_limits<float>::infinity();
  for (const float logit : kept_)
    if (logit >= least && logit < last) last = logit;
  for (float& logit : kept_)
    if (logit > last) logit = kMinusInfinity;
}

}  // namespace ersd
