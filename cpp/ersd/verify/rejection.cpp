// Rejection sampling over siblings.
#include "ersd/verify/rejection.h"

#include <algorithm>

namespace ersd {
namespace {

// Siblings are drawn in rounds: kFirstDrawn at first, then kMoreDrawn times as many in each round.
constexpr size_t kFirstDrawn = 4, kMoreDrawn = 8;

// A draft with less probability left than float resolves has no more siblings.
constexpr double kLeastDraft = 1e-30;

}  // namespace

void Rejection::draw_independent(uint64_t seed, uint32_t position, size_t m) {
  siblings_.clear();
  if (draft_.total() <= 0) return;
  draft_.accumulate();
  for (size_t i = 0; i < m; ++i)
    siblings_.push_back(
        draft_.draw(uniform(seed, position, Domain::kSiblings, static_cast<uint32_t>(i))));
}

std::span<const Token> Rejection::draw_siblings(std::span<const float> draft,
                                                const SamplingOptions& options, Siblings kind,
                                                uint64_t seed, uint32_t position, size_t m) {
  if (kind == Siblings::kIndependent) {
    draft_.read(draft, options);
    draw_independent(seed, position, m);
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
  target_.read(target, options);
  check_target(target_);
  const bool has_draft = !draft.empty();
  if (has_draft) draft_.read(draft, options);
  int32_t tried = 0;
  for (size_t drawn = kFirstDrawn;
       has_draft && draft_.total() > kLeastDraft && tried < kMaxSiblings;
       drawn = std::min<size_t>(drawn * kMoreDrawn, kMaxSiblings)) {
    if (kind == Siblings::kDistinct)
      draw_siblings(draft, options, kind, seed, position, drawn);
    else
      draw_independent(seed, position, drawn);
    const auto n = static_cast<int32_t>(siblings_.size());
    for (; tried < n && draft_.total() > kLeastDraft; ++tried) {
      const Token token = siblings_[static_cast<size_t>(tried)];
      const double u = uniform(seed, position, Domain::kAcceptance, static_cast<uint32_t>(tried));
      if (u * draft_.probability(token) < target_.probability(token)) return {token, tried};
      target_.subtract(1, draft_);
      // Nothing is left if target and draft are equal; then rounding alone rejected the sibling.
      if (target_.total() <= 0) return {token, tried};
      if (kind == Siblings::kDistinct) draft_.remove(token);
    }
    if (static_cast<size_t>(n) < drawn) break;  // the draft has no more
  }
  target_.accumulate();
  return {target_.draw(uniform(seed, position, Domain::kResidual, 0)),
          has_draft ? kMaxSiblings : -1};
}

}  // namespace ersd
