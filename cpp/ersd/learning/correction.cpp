// Gradient steps on the few tokens whose probabilities differ.
#include "ersd/learning/correction.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ersd/race/indices_at_least.h"
#include "ersd/race/simd/lanes.h"

namespace ersd {
namespace {

constexpr float kLeastDifference = 0.001f;  // smaller differences of probability are ignored
constexpr float kMostBias = 4;
constexpr float kMostDifference = 3;                  // of logits at temperature 1
constexpr float kRate = 0.7f, kFirstSquares = 0.03f;  // of AdaGrad

// Near temperature 0, probabilities say little about logits. They are compared at this temperature
// or a higher one.
constexpr float kLeastTemperature = 0.5f;

constexpr size_t kMostEntries = 1 << 20;

// out = |a scale_a - b scale_b|; f32[n] each
ERSD_VECTORISED void absolute_differences(const float* a, float scale_a, const float* b,
                                          float scale_b, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = std::abs(a[i] * scale_a - b[i] * scale_b);
}

}  // namespace

void Correction::apply(Token before, std::span<float> row) const {
  for (const Token context : {kAny, before})
    for (const Entry& entry : entries(context))
      if (static_cast<size_t>(entry.token) < row.size())
        row[static_cast<size_t>(entry.token)] += entry.bias;
}

void Correction::learn(Token before, std::span<const float> target, std::span<const float> draft,
                       float temperature) {
  temperature = std::max(temperature, kLeastTemperature);
  find_differences(target, draft, temperature);
  if (differing_.empty()) return;
  step(entries_[kAny], kRate * temperature);
  step(entries_[before], kRate * temperature);
}

// Writes differing_, difference_ and logits_; neither has elements if a row has no finite logit.
void Correction::find_differences(std::span<const float> target, std::span<const float> draft,
                                  float temperature) {
  const SamplingOptions options{temperature, 0, 1, 0};
  const auto read = [&](std::span<const float> logits, std::vector<float>& weights) {
    row_.read(logits);
    weights.resize(logits.size());
    return std::isfinite(row_.maximum())
               ? probability_weights(row_, options, -std::numeric_limits<float>::infinity(),
                                     weights)
               : 0.0;
  };
  const double target_sum = read(target, target_), draft_sum = read(draft, draft_);
  differing_.clear(), logits_.clear();
  if (target_sum <= 0 || draft_sum <= 0) return;
  const size_t n = std::min(target.size(), draft.size());
  const auto scale = static_cast<float>(1 / target_sum),
             draft_scale = static_cast<float>(1 / draft_sum);
  difference_.resize(std::max(difference_.size(), n));
  found_.resize(std::max(found_.size(), n + kIndexSlack));
  absolute_differences(target_.data(), scale, draft_.data(), draft_scale, n, difference_.data());
  const size_t n_found = indices_at_least(std::span(difference_).first(n),
                                          std::nextafter(kLeastDifference, 1.0f), 0, found_.data());
  differing_.assign(found_.begin(), found_.begin() + static_cast<ptrdiff_t>(n_found));
  for (size_t i = 0; i < n_found; ++i) {
    const auto token = static_cast<size_t>(differing_[i]);
    const float p = target_[token] * scale, q = draft_[token] * draft_scale;
    difference_[i] = p - q;
    const float ratio = std::clamp(std::log(p / q), -kMostDifference, kMostDifference);
    logits_.push_back({differing_[i], temperature * ratio});
  }
}

// Moves the biases of the tokens that differ. Entries and differences are both in the order of
// their tokens, so they are merged. If there is no more room, tokens without an entry are left out.
void Correction::step(std::vector<Entry>& entries, float rate) {
  merged_.clear();
  auto next = entries.begin();
  for (size_t i = 0; i < differing_.size(); ++i) {
    while (next != entries.end() && next->token < differing_[i]) merged_.push_back(*next++);
    const bool known = next != entries.end() && next->token == differing_[i];
    if (!known && n_entries_ == kMostEntries) continue;
    Entry entry = known ? *next++ : Entry{differing_[i], 0, 0};
    n_entries_ += !known;
    entry.squares += difference_[i] * difference_[i];
    entry.bias =
        std::clamp(entry.bias + rate * difference_[i] / std::sqrt(kFirstSquares + entry.squares),
                   -kMostBias, kMostBias);
    merged_.push_back(entry);
  }
  merged_.insert(merged_.end(), next, entries.end());
  if (merged_.size() > entries.capacity()) entries.reserve(2 * merged_.size());
  entries.assign(merged_.begin(), merged_.end());
}

std::span<const Correction::Entry> Correction::entries(Token before) const {
  const auto found = entries_.find(before);
  return found == entries_.end() ? std::span<const Entry>() : found->second;
}

std::vector<Token> Correction::contexts() const {
  std::vector<Token> contexts;
  for (const auto& [before, entries] : entries_) contexts.push_back(before);
  std::sort(contexts.begin(), contexts.end());
  return contexts;
}

void Correction::set(Token before, std::vector<Entry> entries) {
  Token last = -1;
  for (const Entry& entry : entries) {
    if (entry.token <= last || !(std::abs(entry.bias) <= kMostBias) ||
        !(entry.squares >= 0 && std::isfinite(entry.squares)))
      throw std::invalid_argument(
          "a correction needs ascending tokens, biases between -4 and 4 and finite squares");
    last = entry.token;
  }
  auto& mine = entries_[before];
  n_entries_ -= mine.size();
  entries.resize(std::min(entries.size(), kMostEntries - n_entries_));
  n_entries_ += entries.size();
  mine = std::move(entries);
}

}  // namespace ersd
