// Lazy filtering: the filter is asked about the first arrivals, and about as many probable tokens
// as truncation depends on.
#include "ersd/verify/filtered_race.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

namespace ersd {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

// Sums within this relative distance of a limit are too near to it; truncation itself must decide.
constexpr double kRounding = 1e-5;

// How many arrivals and how many of the most probable tokens each round looks at.
constexpr std::array kArrivals{1, 8, 64, 512, 4096};
constexpr std::array kMostProbable{1, 64, 512, 4096};

}  // namespace

std::span<const float> FilteredRace::mask(std::span<const float> logits, const Allowed& allowed) {
  begin(logits, allowed);
  mask_all();
  return masked_;
}

Token FilteredRace::winner(std::span<const float> logits, const SamplingOptions& options,
                           const Clock& clock, const Allowed& allowed) {
  begin(logits, allowed);
  size_t tried = 0;
  for (const size_t m : kArrivals) {
    const auto arrivals = race_.arrivals(logits, options.without_truncation(), clock, m);
    for (const Arrival& arrival : arrivals.subspan(tried))
      if (answers_[static_cast<size_t>(arrival.token)] == kNotAsked)
        asked_.push_back(arrival.token);
    ask();
    for (; tried < arrivals.size(); ++tried) {
      const auto token = static_cast<size_t>(arrivals[tried].token);
      if (answers_[token] != kAllowed) continue;
      const Kept kept = check_kept(logits[token], options);
      if (kept == Kept::kYes) return arrivals[tried].token;
      if (kept == Kept::kUncertain) return race_all(options, clock);
    }
    if (arrivals.size() < m) break;
  }
  return race_all(options, clock);
}

void FilteredRace::begin(std::span<const float> logits, const Allowed& allowed) {
  allowed_ = &allowed;
  row_.read(logits);
  answers_.assign(logits.size(), kNotAsked);
  asked_.clear();
  total_ = -1;
}

// Asks about the tokens in asked_.
void FilteredRace::ask() {
  replies_.resize(asked_.size());
  if (!asked_.empty()) (*allowed_)(asked_, replies_);
  for (size_t i = 0; i < asked_.size(); ++i)
    answers_[static_cast<size_t>(asked_[i])] = replies_[i] ? kAllowed : kRefused;
  asked_.clear();
}

// Asks about all tokens with at least this logit.
void FilteredRace::ask_down_to(float least) {
  for (size_t b = 0; b < row_.maxima().size(); ++b) {
    if (!(row_.maxima()[b] >= least)) continue;
    const auto block = row_.block(static_cast<int32_t>(b));
    for (size_t i = 0, token = b * Clock::kBlock; i < block.size(); ++i, ++token)
      if (block[i] >= least && answers_[token] == kNotAsked)
        asked_.push_back(static_cast<Token>(token));
  }
  ask();
}

// Asks about all tokens that have a probability and writes masked_.
void FilteredRace::mask_all() {
  ask_down_to(std::numeric_limits<float>::lowest());
  const auto logits = row_.logits();
  masked_.assign(logits.begin(), logits.end());
  bool any = false;
  for (size_t i = 0; i < masked_.size(); ++i) {
    if (answers_[i] != kAllowed) masked_[i] = kNone;
    any |= masked_[i] > kNone;
  }
  if (!any && row_.maximum() > kNone)
    throw std::runtime_error(
        "the grammar and the other options leave no token: none that it allows has a probability");
}

Token FilteredRace::race_all(const SamplingOptions& options, const Clock& clock) {
  mask_all();
  return race_.winner(masked_, options, clock).token;
}

// Whether truncation of the masked row keeps an allowed token with this logit. Asks about the more
// probable tokens first, then about less probable ones until the answer is certain.
FilteredRace::Kept FilteredRace::check_kept(float logit, const SamplingOptions& options) {
  if (!options.truncates()) return Kept::kYes;
  if (options.selects()) return Kept::kUncertain;
  Kept kept = Kept::kUncertain;
  for (const int32_t m : kMostProbable) {
    const float least = std::min(logit, truncation_.cutoff(row_, {1, m, 1, 0}));
    ask_down_to(least);
    kept = check_kept(logit, least, options);
    if (kept != Kept::kUncertain) break;
  }
  return kept;
}

// Whether truncation keeps an allowed token with this logit, judged by the tokens with at least the
// logit `least`. All of these must have been asked about.
FilteredRace::Kept FilteredRace::check_kept(float logit, float least,
                                            const SamplingOptions& options) {
  find_allowed(least);
  const auto n_above = static_cast<size_t>(
      std::lower_bound(allowed_logits_.begin(), allowed_logits_.end(), logit, std::greater<>()) -
      allowed_logits_.begin());
  const auto top_k = options.top_k > 0 ? static_cast<size_t>(options.top_k) : answers_.size();
  if (n_above >= top_k) return Kept::kNo;
  if (options.min_p > 0 && logit < allowed_logits_.front() + std::log(options.min_p))
    return Kept::kNo;
  if (options.top_p >= 1) return Kept::kYes;
  return check_top_p(n_above, least, top_k, options.top_p);
}

// Whether top-p keeps an allowed token below n_above others. Top-p compares the sum of those above
// with the sum over all that top-k leaves. What is still missing in the second sum has two bounds:
// the sum of all tokens that were not asked about, and the number of places that top-k has left
// times the weight of the next token.
FilteredRace::Kept FilteredRace::check_top_p(size_t n_above, float least, size_t top_k,
                                             double top_p) {
  if (total_ < 0) total_ = exp_sum(row_.logits(), row_.maximum());
  const auto sum_of_first = [&](size_t n) {
    return exp_sum(std::span(allowed_logits_).first(n), row_.maximum());
  };
  const double above = sum_of_first(n_above);
  const double known = sum_of_first(std::min(top_k, allowed_logits_.size()));
  const double places =
      top_k > allowed_logits_.size() ? static_cast<double>(top_k - allowed_logits_.size()) : 0;
  const double missing = std::min(std::max(total_ - asked_sum(least), 0.0) + kRounding * total_,
                                  places * std::exp(static_cast<double>(least) - row_.maximum()));
  if (above < top_p * known * (1 - kRounding)) return Kept::kYes;
  if (above > top_p * (known + missing) * (1 + kRounding)) return Kept::kNo;
  return Kept::kUncertain;
}

// Writes allowed_logits_ from the tokens with at least this logit.
void FilteredRace::find_allowed(float least) {
  allowed_logits_.clear();
  for (size_t b = 0; b < row_.maxima().size(); ++b) {
    if (!(row_.maxima()[b] >= least)) continue;
    const auto block = row_.block(static_cast<int32_t>(b));
    for (size_t i = 0; i < block.size(); ++i)
      if (block[i] >= least && answers_[b * Clock::kBlock + i] == kAllowed)
        allowed_logits_.push_back(block[i]);
  }
  std::sort(allowed_logits_.begin(), allowed_logits_.end(), std::greater<>());
}

// The sum of exp(logit - maximum) of the tokens with at least this logit, allowed or not.
double FilteredRace::asked_sum(float least) const {
  double sum = 0;
  for (size_t b = 0; b < row_.maxima().size(); ++b) {
    if (!(row_.maxima()[b] >= least)) continue;
    for (const float logit : row_.block(static_cast<int32_t>(b)))
      if (logit >= least) sum += std::exp(static_cast<double>(logit) - row_.maximum());
  }
  return sum;
}

}  // namespace ersd
