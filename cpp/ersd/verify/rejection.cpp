// Rejection sampling over siblings.
#include "ersd/verify/rejection.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "ersd/race/simd/lanes.h"

namespace ersd {
namespace {

constexpr size_t kBlock = Clock::kBlock;
constexpr size_t kChunk = 4096;  // weights that are summed in float; their sums are added in double

// Siblings are drawn in rounds: kFirstDrawn at first, then kMoreDrawn times as many in each round.
constexpr size_t kFirstDrawn = 4, kMoreDrawn = 8;

// A draft with less probability left than float resolves has no more siblings.
constexpr double kLeastDraft = 1e-30;

// Computes residual = max(residual / sum - draft / draft_sum, 0) and returns its sum.
// residual: f32[n_vocab]; draft: f32[n_draft_vocab], where n_draft_vocab <= n_vocab.
ERSD_VECTORISED double subtract(std::span<float> residual, double sum, std::span<const float> draft,
                                double draft_sum) {
  const auto scale = static_cast<float>(1 / sum), draft_scale = static_cast<float>(1 / draft_sum);
  double total = 0;
  for (size_t start = 0; start < draft.size(); start += kChunk) {
    const size_t end = std::min(draft.size(), start + kChunk);
    float partial[kSums] = {};
    size_t j = start;
    for (; j + kSums <= end; j += kSums)
      for (int i = 0; i < kSums; ++i) {
        const float rest = residual[j + i] * scale - draft[j + i] * draft_scale;
        residual[j + i] = rest > 0 ? rest : 0;
        partial[i] += residual[j + i];
      }
    for (; j < end; ++j) {
      const float rest = residual[j] * scale - draft[j] * draft_scale;
      residual[j] = rest > 0 ? rest : 0;
      total += residual[j];
    }
    for (float p : partial) total += p;
  }
  for (size_t j = draft.size(); j < residual.size(); ++j)
    total += residual[j] *= scale;  // tokens that the draft does not have
  return total;
}

// Sets cumulative[b] to the sum of the weights before block b; f64[n_blocks + 1].
void accumulate(std::span<const float> weights, std::vector<double>& cumulative) {
  cumulative.assign(1, 0);
  for (size_t start = 0; start < weights.size(); start += kBlock)
    cumulative.push_back(cumulative.back() +
                         sum(weights.subspan(start, std::min(kBlock, weights.size() - start))));
}

// Returns the token at which the running sum of the weights passes the share u of their total.
Token invert(std::span<const float> weights, std::span<const double> cumulative, double u) {
  const double wanted = u * cumulative.back();
  const auto block = std::upper_bound(cumulative.begin() + 1, cumulative.end() - 1, wanted) -
                     cumulative.begin() - 1;
  double sum = cumulative[static_cast<size_t>(block)];
  size_t last = weights.size();  // the last token with a weight that was seen
  const size_t end = std::min(weights.size(), (static_cast<size_t>(block) + 1) * kBlock);
  for (size_t j = static_cast<size_t>(block) * kBlock; j < end; ++j) {
    if (weights[j] <= 0) continue;
    last = j;
    if ((sum += weights[j]) > wanted) break;
  }
  // If rounding led past the last weight of the block, an earlier block has the token.
  if (last == weights.size())
    while (last > 0 && weights[--last] <= 0) {
    }
  return static_cast<Token>(last);
}

}  // namespace

// Writes the weights of the probabilities and returns their sum; 0 if no logit is finite.
double Rejection::read_weights(std::span<const float> logits, const SamplingOptions& options,
                               std::vector<float>& weights) {
  row_.read(logits);
  if (!std::isfinite(row_.maximum())) return 0;
  weights.resize(logits.size());
  return probability_weights(row_, options, truncation_.cutoff(row_, options), weights);
}

void Rejection::draw_independent(double total, uint64_t seed, uint32_t position, size_t m) {
  siblings_.clear();
  if (total <= 0) return;
  accumulate(draft_, cumulative_);
  for (size_t i = 0; i < m; ++i)
    siblings_.push_back(invert(
        draft_, cumulative_, uniform(seed, position, Domain::kSiblings, static_cast<uint32_t>(i))));
}

std::span<const Token> Rejection::draw_siblings(std::span<const float> draft,
                                                const SamplingOptions& options, Siblings kind,
                                                uint64_t seed, uint32_t position, size_t m) {
  if (kind == Siblings::kIndependent) {
    draw_independent(read_weights(draft, options, draft_), seed, position, m);
    return siblings_;
  }
  siblings_.clear();
  for (const Arrival& a :
       race_.arrivals(draft, options, Clock(seed, position, Domain::kSiblings), m))
    siblings_.push_back(a.token);
  return siblings_;
}

RankedToken Rejection::sample(std::span<const float> target, std::span<const float> draft,
                              const SamplingOptions& options, Siblings kind, uint64_t seed,
                              uint32_t position) {
  double rest = read_weights(target, options, target_);
  if (rest <= 0)
    throw std::runtime_error("the model gave no token a probability: all " +
                             std::to_string(target.size()) + " logits are NaN or -infinity");
  double draft_rest = draft.empty() ? 0 : read_weights(draft, options, draft_);
  int32_t tried = 0;
  for (size_t drawn = kFirstDrawn; draft_rest > kLeastDraft && tried < kMaxSiblings;
       drawn = std::min<size_t>(drawn * kMoreDrawn, kMaxSiblings)) {
    if (kind == Siblings::kDistinct)
      draw_siblings(draft, options, kind, seed, position, drawn);
    else
      draw_independent(draft_rest, seed, position, drawn);
    const auto n = static_cast<int32_t>(siblings_.size());
    for (; tried < n && draft_rest > kLeastDraft; ++tried) {
      const auto x = static_cast<size_t>(siblings_[static_cast<size_t>(tried)]);
      const double u = uniform(seed, position, Domain::kAcceptance, static_cast<uint32_t>(tried));
      if (u * (draft_[x] / draft_rest) < target_[x] / rest) return {static_cast<Token>(x), tried};
      rest = subtract(target_, rest, draft_, draft_rest);
      // Nothing is left if target and draft are equal; then rounding alone rejected the sibling.
      if (rest <= 0) return {static_cast<Token>(x), tried};
      if (kind == Siblings::kIndependent) continue;
      draft_[x] = 0;
      draft_rest = sum(draft_);
    }
    if (static_cast<size_t>(n) < drawn) break;  // the draft has no more
  }
  accumulate(target_, cumulative_);
  return {invert(target_, cumulative_, uniform(seed, position, Domain::kResidual, 0)),
          draft.empty() ? -1 : kMaxSiblings};
}

}  // namespace ersd
