// Methods as couplings of draft and target.
#include "ersd/coupling.h"

namespace ersd {

std::span<const Token> Coupling::order(std::span<const float> draft, uint32_t position, size_t m) {
  if (rejects()) return rejection_.siblings(draft, options_, siblings(), seed_, position + shift_, m);
  order_.clear();
  for (const Arrival& arrival : arrivals(draft, position, m)) order_.push_back(arrival.token);
  return order_;
}

std::span<const Arrival> Coupling::arrivals(std::span<const float> draft, uint32_t position, size_t m) {
  return race_.arrivals(draft, draft_options(), Clock(seed_, position + shift_), m);
}

Ranked Coupling::emit(std::span<const float> target, std::span<const float> draft, uint32_t position) {
  if (rejects()) return rejection_.sample(target, draft, options_, siblings(), seed_, position + shift_);
  const Clock clock(seed_, position + shift_);
  const Token token = race_.winner(target, options_, clock).token;
  return {token, draft.empty() ? -1 : static_cast<int32_t>(race_.rank(draft, draft_options(), clock, token, kRanks))};
}

}  // namespace ersd
