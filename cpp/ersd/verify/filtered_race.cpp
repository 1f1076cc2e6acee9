// Lazy filtering: arrivals in order, and of the tokens that are more probable, as many as
// truncation depends on.
#include "ersd/verify/filtered_race.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

namespace ersd {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr double kDoubt =
    1e-5;  // sums nearer than this to a limit are compared by truncation itself

}  // namespace

std::span<const float> FilteredRace::mask(std::span<const float> logits, const Allowed& allowed) {
  start(logits, allowed);
  mask_rest();
  return masked_;
}

// Asks about all tokens that nothing is known of.
void FilteredRace::mask_rest() {
  ask_down_to(std::numeric_limits<float>::lowest());
  const auto logits = row_.logits();
  masked_.assign(logits.begin(), logits.end());
  bool any = false;
  for (size_t i = 0; i < masked_.size(); ++i) {
    if (known_[i] != kAllowed) masked_[i] = kNone;
    any |= masked_[i] > kNone;
  }
  if (!any && row_.maximum() > kNone)
    throw std::runtime_error(
        "the grammar and the other options leave no token: none that it allows has a probability");
}

Token FilteredRace::winner(std::span<const float> logits, const SamplingOptions& options,
                           const Clock& clock, const Allowed& allowed) {
  start(logits, allowed);
  size_t tried = 0;
  for (const size_t m : {1, 8, 64, 512, 4096}) {
    const auto arrivals = race_.arrivals(logits, options.without_truncation(), clock, m);
    for (const Arrival& arrival : arrivals.subspan(tried))
      if (known_[static_cast<size_t>(arrival.token)] == kUnknown) asked_.push_back(arrival.token);
    ask();
    for (; tried < arrivals.size(); ++tried) {
      const auto token = static_cast<size_t>(arrivals[tried].token);
      if (known_[token] != kAllowed) continue;
      const Kept is_kept = kept(logits[token], options);
      if (is_kept == Kept::kYes) return arrivals[tried].token;
      if (is_kept == Kept::kUnknown) return race_all(options, clock);
    }
    if (arrivals.size() < m) break;
  }
  return race_all(options, clock);
}

Token FilteredRace::race_all(const SamplingOptions& options, const Clock& clock) {
  mask_rest();
  return race_.winner(masked_, options, clock).token;
}

void FilteredRace::start(std::span<const float> logits, const Allowed& allowed) {
  allowed_ = &allowed;
  row_.read(logits);
  known_.assign(logits.size(), kUnknown);
  asked_.clear();
  total_ = -1;
}

void FilteredRace::ask() {
  answers_.resize(asked_.size());
  if (!asked_.empty()) (*allowed_)(asked_, answers_);
  for (size_t i = 0; i < asked_.size(); ++i)
    known_[static_cast<size_t>(asked_[i])] = answers_[i] ? kAllowed : kRefused;
  asked_.clear();
}

void FilteredRace::ask_down_to(float least) {
  for (size_t b = 0; b < row_.maxima().size(); ++b) {
    if (!(row_.maxima()[b] >= least)) continue;
    const auto block = row_.block(static_cast<int32_t>(b));
    for (size_t i = 0, token = b * Clock::kBlock; i < block.size(); ++i, ++token)
      if (block[i] >= least && known_[token] == kUnknown)
        asked_.push_back(static_cast<Token>(token));
  }
  ask();
}

// Whether truncation of the masked row keeps an allowed token with this logit. Asks about the
// tokens that are more probable, then, as long as it is not certain, about more of the less
// probable ones.
FilteredRace::Kept FilteredRace::kept(float logit, const SamplingOptions& options) {
  if (!options.truncates()) return Kept::kYes;
  if (options.selects()) return Kept::kUnknown;
  Kept known = Kept::kUnknown;
  for (const int32_t m : {1, 64, 512, 4096}) {
    const float least = std::min(logit, truncation_.cutoff(row_, {1, m, 1, 0}));
    ask_down_to(least);
    known = verdict(logit, least, options);
    if (known != Kept::kUnknown) break;
  }
  return known;
}

void FilteredRace::find_allowed(float least) {
  allowed_logits_.clear();
  for (size_t b = 0; b < row_.maxima().size(); ++b) {
    if (!(row_.maxima()[b] >= least)) continue;
    const auto block = row_.block(static_cast<int32_t>(b));
    for (size_t i = 0; i < block.size(); ++i)
      if (block[i] >= least && known_[b * Clock::kBlock + i] == kAllowed)
        allowed_logits_.push_back(block[i]);
  }
  std::sort(allowed_logits_.begin(), allowed_logits_.end(), std::greater<>());
}

// The same, when all tokens with at least this logit have been asked about. Top-p needs the sum
// over all that top-k leaves, and what can be missing in it is bounded: by the sum of all other
// tokens, and by the number of tokens that top-k has left times the weight of the next.
FilteredRace::Kept FilteredRace::verdict(float logit, float least, const SamplingOptions& options) {
  find_allowed(least);
  const auto n_above = static_cast<size_t>(
      std::lower_bound(allowed_logits_.begin(), allowed_logits_.end(), logit, std::greater<>()) -
      allowed_logits_.begin());
  const auto top_k = options.top_k > 0 ? static_cast<size_t>(options.top_k) : known_.size();
  if (n_above >= top_k) return Kept::kNo;
  if (options.min_p > 0 && logit < allowed_logits_.front() + std::log(options.min_p))
    return Kept::kNo;
  if (options.top_p >= 1) return Kept::kYes;
  if (total_ < 0) total_ = exp_sum(row_.logits(), row_.maximum());
  const auto sum = [&](size_t n) {
    return exp_sum(std::span(allowed_logits_).first(n), row_.maximum());
  };
  const double above = sum(n_above), known = sum(std::min(top_k, allowed_logits_.size()));
  double asked = 0;
  for (size_t b = 0; b < row_.maxima().size(); ++b) {
    if (!(row_.maxima()[b] >= least)) continue;
    for (const float x : row_.block(static_cast<int32_t>(b)))
      if (x >= least) asked += std::exp(static_cast<double>(x) - row_.maximum());
  }
  const double places =
      top_k > allowed_logits_.size() ? static_cast<double>(top_k - allowed_logits_.size()) : 0;
  const double missing = std::min(std::max(total_ - asked, 0.0) + kDoubt * total_,
                                  places * std::exp(static_cast<double>(least) - row_.maximum()));
  if (above < options.top_p * known * (1 - kDoubt)) return Kept::kYes;
  if (above > options.top_p * (known + missing) * (1 + kDoubt)) return Kept::kNo;
  return Kept::kUnknown;
}

}  // namespace ersd
