// Following a text, and what it proposes.
#include "ersd/draft/text_source.h"

#include <algorithm>
#include <numeric>

namespace ersd {
namespace {

constexpr size_t kMostContinuations = 8;  // of one state that race
constexpr size_t kMostProposed = 3;       // of one state
constexpr int32_t kLeastMatch = 2;        // tokens that place a cursor
constexpr int32_t kMostDeparted = 16;     // then the answer is not expected to come back
constexpr int32_t kNear = 48;             // tokens that an answer may skip
constexpr int32_t kBack = 8;              // an answer that agrees for so long has come back
constexpr int32_t kMostShare = static_cast<int32_t>(HitRates::kShares) - 1;
constexpr double kLikely = 0.5;

}  // namespace

// The place after the first occurrence of a token that is not far behind a place; -1 if there is
// none.
int32_t TextSource::find_near(int32_t place, Token token) const {
  for (int32_t at = place; at < std::min(place + kNear, size()); ++at)
    if (automaton_.token(at) == token) return at + 1;
  return -1;
}

TextSource::Place TextSource::follow(const Place& place, Token token) const {
  Place next = place;
  next.last = token;
  next.match = automaton_.follow(place.match, token);
  const auto goes_on_at = [&](int32_t at, int32_t n_agreed) {
    if (!has(at) || automaton_.token(at) != token) return false;
    next.cursor = at + 1, next.n_agreed = n_agreed + 1, next.n_departed = 0, next.skip = -1;
    return true;
  };
  if (place.cursor >= 0 && place.n_departed == 0 && !goes_on_at(place.cursor, place.n_agreed))
    next.n_departed = 1, next.n_before = place.n_agreed;
  else if (place.cursor >= 0 && place.n_departed > 0 && !goes_on_at(place.skip, 1) &&
           !goes_on_at(place.cursor, 0) && !goes_on_at(place.cursor + place.n_departed, 0))
    ++next.n_departed;
  if (next.n_departed > 0) next.skip = find_near(next.cursor + 1, token);
  if (next.n_departed > kMostDeparted) next = {.match = next.match, .last = token};
  const int32_t agreed = next.n_departed > 0 ? kLeastMatch : next.n_agreed + 1;
  if (next.match.length >= kLeastMatch && (next.cursor < 0 || next.match.length > agreed))
    next = {.match = next.match,
            .cursor = automaton_.end(next.match),
            .n_agreed = next.match.length,
            .last = token};
  return next;
}

void TextSource::add(Token token, Form form, int32_t length, int32_t share,
                     std::vector<HitRates::Proposal>& out) const {
  if (token < 0) return;  // the end of a text of the history
  for (const HitRates::Proposal& proposal : out)
    if (proposal.token == token) return;
  out.push_back({{static_cast<uint8_t>(source_), static_cast<uint8_t>(form),
                  HitRates::length_class(length), static_cast<uint8_t>(share)},
                 0,
                 token});
}

// Proposes what followed a substring.
void TextSource::propose_after(SuffixAutomaton::Match match, Form form, const Place& place,
                               const Clock* clock, std::vector<HitRates::Proposal>& out) {
  automaton_.continuations(match, kMostContinuations, continuations_);
  weights_.clear();
  for (const auto& c : continuations_)
    weights_.push_back(clock ? c.count / (*clock)(c.token) : c.count);
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  const bool is_sole = continuations_.size() == 1;
  for (size_t n = 0; n < std::min(kMostProposed, continuations_.size()); ++n) {
    const auto best = static_cast<size_t>(std::ranges::max_element(weights_) - weights_.begin());
    const Token token = continuations_[best].token;
    const bool is_at_cursor =
        place.n_departed == 0 && has(place.cursor) && automaton_.token(place.cursor) == token;
    const int32_t share = is_sole ? 0 : is_at_cursor ? 1 : weights_[best] > kLikely * total ? 2 : 3;
    add(token, form, match.length, share, out);
    weights_[best] = -1;
  }
}

void TextSource::propose(const Place& place, const Clock* clock,
                         std::vector<HitRates::Proposal>& out) {
  out.clear();
  const bool agrees = place.n_departed == 0 && has(place.cursor);
  if (agrees && place.n_before > place.n_agreed && place.n_agreed < kBack)
    add(automaton_.token(place.cursor), Form::kReturns, place.n_agreed,
        std::min(place.n_agreed - 1, kMostShare), out);
  else if (agrees && place.n_agreed > place.match.length)
    add(automaton_.token(place.cursor), Form::kFollows, place.n_agreed, 0, out);
  if (place.match.length > 0) propose_after(place.match, Form::kFollows, place, clock, out);
  if (place.n_departed > 0) {
    const int32_t share = std::min(place.n_departed - 1, kMostShare);
    if (has(place.skip))
      add(automaton_.token(place.skip), Form::kSkips, place.n_agreed, share, out);
    if (has(place.cursor + place.n_departed))
      add(automaton_.token(place.cursor + place.n_departed), Form::kReplaces, place.n_agreed, share,
          out);
    if (has(place.cursor))
      add(automaton_.token(place.cursor), Form::kResumes, place.n_agreed, share, out);
  }
  if (const auto shorter = automaton_.shorter(place.match); shorter.length > 0)
    propose_after(shorter, Form::kShorter, place, clock, out);
  for (HitRates::Proposal& proposal : out) proposal.before = place.last;
}

}  // namespace ersd
