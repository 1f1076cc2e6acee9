// Methods as couplings of draft and target.
#include "ersd/coupling.h"

#include <limits>

namespace ersd {

Coupling::Selected Coupling::select(std::span<const float> logits, const SamplingOptions& options, uint32_t position, Selection& selection) const {
  if (!options.selects() || logits.empty()) return {logits, options};
  return {selection.select(logits, options, uniform(seed_, position + shift_, Domain::kXtc, 0)), options.without_truncation()};
}

std::span<const Token> Coupling::order(std::span<const float> draft, uint32_t position, size_t m) {
  if (rejects()) {
    const auto [row, options] = select(draft, options_, position, draft_selection_);
    return rejection_.siblings(row, options, siblings(), seed_, position + shift_, m);
  }
  order_.clear();
  for (const Arrival& arrival : arrivals(draft, position, m)) order_.push_back(arrival.token);
  return order_;
}

std::span<const Arrival> Coupling::arrivals(std::span<const float> draft, uint32_t position, size_t m) {
  const auto [row, options] = select(draft, draft_options(), position, draft_selection_);
  return race_.arrivals(row, options, Clock(seed_, position + shift_), m);
}

Ranked Coupling::emit(std::span<const float> target, std::span<const float> draft, uint32_t position, const Allowed& allowed) {
  const bool lazy = allowed && !rejects() && !options_.selects();
  if (allowed && !lazy) target = filtered_race_.mask(target, allowed);
  const auto [row, options] = select(target, options_, position, target_selection_);
  if (rejects())
    return rejection_.sample(row, select(draft, options_, position, draft_selection_).logits, options, siblings(), seed_, position + shift_);
  const Clock clock(seed_, position + shift_);
  const Token token = lazy ? filtered_race_.winner(row, options, clock, allowed) : race_.winner(row, options, clock).token;
  if (draft.empty()) return {token, -1};
  const auto [draft_row, draft_opts] = select(draft, draft_options(), position, draft_selection_);
  return {token, static_cast<int32_t>(race_.rank(draft_row, draft_opts, clock, token, kRanks))};
}

void Coupling::restrict_draft(std::span<float> draft, uint32_t position, const Allowed& allowed) {
  constexpr size_t kFirst = 16, kMostProbable = 64;
  constexpr int kRounds = 3;  // of looking behind what was taken
  const auto take = [&](std::span<const Token> tokens) {
    answers_.resize(tokens.size());
    allowed(tokens, answers_);
    bool taken = false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (answers_[i]) continue;
      draft[static_cast<size_t>(tokens[i])] = -std::numeric_limits<float>::infinity();
      taken = true;
    }
    return taken;
  };
  const auto ask = [&](std::span<const Arrival> first) {
    order_.clear();
    for (const Arrival& arrival : first) order_.push_back(arrival.token);
    return take(order_);
  };
  if (rejects()) {
    ask(race_.arrivals(draft, {0, 0, 1, 0}, Clock(seed_, position + shift_), kMostProbable));
    return;
  }
  for (int round = 0; round < kRounds && ask(arrivals(draft, position, kFirst)); ++round) {
  }
}

}  // namespace ersd
