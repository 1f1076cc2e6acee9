// Methods as couplings of draft and target.
#include "ersd/verify/coupling.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace ersd {

Coupling::Selected Coupling::select(std::span<const float> logits, const SamplingOptions& options,
                                    uint32_t position, Selection& selection) const {
  if (!options.selects() || logits.empty()) return {logits, options};
  return {selection.select(logits, options, uniform(seed_, position + shift_, Domain::kXtc, 0)),
          options.without_truncation()};
}

std::span<const Arrival> Coupling::order(std::span<const float> draft, uint32_t position,
                                         size_t m) {
  const auto [row, options] = select(draft, draft_options(), position, draft_selection_);
  if (!rejects()) return race_.arrivals(row, options, Clock(seed_, position + shift_), m);
  order_.clear();
  for (const Token token :
       rejection_.siblings(row, options, siblings(), seed_, position + shift_, m))
    order_.push_back({token, 0});
  return order_;
}

RankedToken Coupling::emit(std::span<const float> target, const Drafted& draft, uint32_t position,
                           const Allowed& allowed) {
  const bool lazy = allowed && !rejects() && !options_.selects();
  if (allowed && !lazy) target = filtered_race_.mask(target, allowed);
  const auto [row, options] = select(target, options_, position, target_selection_);
  if (rejects())
    return rejection_.sample(row, select(draft.row, options_, position, draft_selection_).logits,
                             options, siblings(), seed_, position + shift_);
  const Clock clock(seed_, position + shift_);
  const Token token = lazy ? filtered_race_.winner(row, options, clock, allowed)
                           : race_.winner(row, options, clock).token;
  if (draft.row.empty()) return {token, -1};
  const auto place = std::ranges::find(draft.order, token, &Arrival::token);
  if (place != draft.order.end()) return {token, static_cast<int32_t>(place - draft.order.begin())};
  const auto [draft_row, draft_opts] =
      select(draft.row, draft_options(), position, draft_selection_);
  return {token, static_cast<int32_t>(race_.rank(draft_row, draft_opts, clock, token, kRanks))};
}

void Coupling::restrict_draft(std::span<float> draft, uint32_t position, const Allowed& allowed) {
  constexpr size_t kFirst = 16, kMostProbable = 64;
  constexpr int kRounds = 3;  // of looking behind what was taken
  const auto take_refused = [&](std::span<const Arrival> first) {
    asked_.clear();
    for (const Arrival& arrival : first) asked_.push_back(arrival.token);
    answers_.resize(asked_.size());
    allowed(asked_, answers_);
    for (size_t i = 0; i < asked_.size(); ++i)
      if (!answers_[i])
        draft[static_cast<size_t>(asked_[i])] = -std::numeric_limits<float>::infinity();
    return !std::ranges::all_of(answers_, std::identity());
  };
  if (rejects()) {
    take_refused(
        race_.arrivals(draft, {0, 0, 1, 0}, Clock(seed_, position + shift_), kMostProbable));
    return;
  }
  for (int round = 0; round < kRounds && take_refused(order(draft, position, kFirst)); ++round) {
  }
}

}  // namespace ersd
