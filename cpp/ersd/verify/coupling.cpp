// The draft's order and the target's token by each method.
#include "ersd/verify/coupling.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace ersd {
namespace {

// How many tokens of the draft's order a filter is asked about in one round, and in how many
// rounds: other tokens take the places of the refused ones.
constexpr size_t kFirstArrivals = 16;
constexpr int kRounds = 3;

// How many of the most probable tokens a filter is asked about for rejection sampling.
constexpr size_t kMostProbable = 64;

}  // namespace

Coupling::Selected Coupling::select(std::span<const float> logits, const SamplingOptions& options,
                                    uint32_t position, Selection& selection) const {
  if (!options.selects() || logits.empty()) return {logits, options};
  return {selection.select(logits, options, uniform(seed_, position + shift_, Domain::kXtc, 0)),
          options.without_truncation()};
}

std::span<const Arrival> Coupling::draft_order(std::span<const float> logits, uint32_t position,
                                               size_t m) {
  const auto [row, options] = select(logits, draft_options(), position, draft_selection_);
  if (!rejects()) return race_.arrivals(row, options, clock(position), m);
  order_.clear();
  for (const Token token :
       rejection_.draw_siblings(row, options, siblings(), seed_, position + shift_, m))
    order_.push_back({token, 0});
  return order_;
}

RankedToken Coupling::sample(std::span<const float> target, const DraftRow& draft,
                             uint32_t position, const Allowed& allowed) {
  const bool asks_few = allowed && !rejects() && !options_.selects();
  if (allowed && !asks_few) target = filtered_race_.mask(target, allowed);
  const auto [row, options] = select(target, options_, position, target_selection_);
  if (rejects())
    return rejection_.sample(row, select(draft.logits, options_, position, draft_selection_).logits,
                             options, siblings(), seed_, position + shift_);
  const Token token = asks_few ? filtered_race_.winner(row, options, clock(position), allowed)
                               : race_.winner(row, options, clock(position)).token;
  return {token, rank(token, draft, position)};
}

// The place of the target's winner in the draft's order. Runs the draft's race again only if the
// winner is not among the arrivals that are known.
int32_t Coupling::rank(Token token, const DraftRow& draft, uint32_t position) {
  if (draft.logits.empty()) return -1;
  const auto place = std::ranges::find(draft.order, token, &Arrival::token);
  if (place != draft.order.end()) return static_cast<int32_t>(place - draft.order.begin());
  const auto [row, options] = select(draft.logits, draft_options(), position, draft_selection_);
  return static_cast<int32_t>(race_.rank(row, options, clock(position), token, kRanks));
}

void Coupling::restrict_draft(std::span<float> logits, uint32_t position, const Allowed& allowed) {
  if (rejects()) {
    const SamplingOptions by_logit{0, 0, 1, 0};
    refuse_tokens(logits, race_.arrivals(logits, by_logit, clock(position), kMostProbable),
                  allowed);
    return;
  }
  for (int round = 0; round < kRounds; ++round)
    if (!refuse_tokens(logits, draft_order(logits, position, kFirstArrivals), allowed)) break;
}

// Sets the logits of those arrivals that are not allowed to -infinity. Returns whether there were
// any.
bool Coupling::refuse_tokens(std::span<float> logits, std::span<const Arrival> arrivals,
                             const Allowed& allowed) {
  asked_.clear();
  for (const Arrival& arrival : arrivals) asked_.push_back(arrival.token);
  replies_.resize(asked_.size());
  allowed(asked_, replies_);
  for (size_t i = 0; i < asked_.size(); ++i)
    if (!replies_[i])
      logits[static_cast<size_t>(asked_[i])] = -std::numeric_limits<float>::infinity();
  return !std::ranges::all_of(replies_, std::identity());
}

}  // namespace ersd
