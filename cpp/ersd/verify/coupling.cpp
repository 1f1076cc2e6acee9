// The draft's order and the target's token by each method.
#include "ersd/verify/coupling.h"

#include <algorithm>

namespace ersd {
Coupling::Selected Coupling::select(std::span<const float> logits, const SamplingOptions& options,
                                    uint32_t position, Selection& selection) const {
  if (!options.selects() || logits.empty()) return {logits, options};
  return {selection.select(logits, options, uniform(seed_, position + shift_, Domain::kXtc, 0)),
          options.without_truncation()};
}

std::span<const Arrival> Coupling::draft_order(std::span<const float> logits, uint32_t position,
                                               size_t m, uint32_t depth) {
  const auto [row, options] = select(logits, draft_options(), position, draft_selection_);
  if (!rejects()) return race_.arrivals(row, options, clock(position), m);
  order_.clear();
  if (verifies_blocks()) {
    const Token token = block_.draw(row, options, seed_, position - depth + shift_, depth);
    if (token >= 0) order_.push_back({token, 0});
    return order_;
  }
  for (const Token token :
       rejection_.draw_siblings(row, options, siblings(), seed_, position + shift_, m))
    order_.push_back({token, 0});
  return order_;
}

RankedToken Coupling::sample(std::span<const float> target, const DraftRow& draft,
                             uint32_t position) {
  const auto [row, options] = select(target, options_, position, target_selection_);
  if (rejects())
    return rejection_.sample(row, select(draft.logits, options_, position, draft_selection_).logits,
                             options, siblings(), seed_, position + shift_);
  const Token token = race_.winner(row, options, clock(position)).token;
  return {token, rank(token, draft, position)};
}

void Coupling::extend_block(std::span<const float> target, const DraftRow& draft, Token token,
                            uint32_t position) {
  const auto [row, options] = select(target, options_, position, target_selection_);
  block_.extend(row, select(draft.logits, options_, position, draft_selection_).logits, options,
                token);
}

void Coupling::end_block(std::span<const float> target, uint32_t position) {
  const auto [row, options] = select(target, options_, position, target_selection_);
  block_.end(row, options);
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

}  // namespace ersd
