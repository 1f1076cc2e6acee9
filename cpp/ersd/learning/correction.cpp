// Gradient steps on the few tokens whose probabilities differ.
#include "ersd/learning/correction.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ersd/race/indices_at_least.h"

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

// A row of logits as probabilities.
class Probabilities {
 public:
  Probabilities(const Row& row, float temperature)
      : logits_(row.logits()), maximum_(row.maximum()), rate_(1 / temperature) {
    factor_ = static_cast<float>(1 / exp_sum(logits_, maximum_, rate_));
  }

  float operator[](Token token) const {
    const float logit = logits_[static_cast<size_t>(token)];
    if (!(logit > -std::numeric_limits<float>::infinity())) return 0;
    return factor_ * std::exp((logit - maximum_) * rate_);
  }

  // The logit of a token with this probability.
  float logit(float probability) const {
    return maximum_ + std::log(probability / factor_) / rate_;
  }

 private:
  std::span<const float> logits_;
  float maximum_, rate_, factor_;
};

// Appends the tokens whose logit is at least this one, in ascending order.
void append_tokens(const Row& row, float least, std::vector<Token>& tokens) {
  for (size_t b = 0; b < row.maxima().size(); ++b) {
    if (!(row.maxima()[b] >= least)) continue;
    const auto block = row.block(static_cast<int32_t>(b));
    const size_t end = tokens.size(), first = b * Clock::kBlock;
    tokens.resize(end + block.size() + kIndexSlack);
    tokens.resize(end + indices_at_least(block, least, static_cast<int32_t>(first), &tokens[end]));
  }
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

// Writes differing_, difference_ and logits_; none has elements if a row has no finite logit.
void Correction::find_differences(std::span<const float> target, std::span<const float> draft,
                                  float temperature) {
  differing_.clear(), difference_.clear(), logits_.clear();
  target_.read(target), draft_.read(draft);
  if (!std::isfinite(target_.maximum()) || !std::isfinite(draft_.maximum())) return;
  const Probabilities target_p(target_, temperature), draft_p(draft_, temperature);
  // A token that differs by so much has at least so much in one of the rows.
  constexpr float kLeast = kLeastDifference * (1 - 1e-4f);
  found_.clear(), draft_found_.clear();
  append_tokens(target_, target_p.logit(kLeast), found_);
  append_tokens(draft_, draft_p.logit(kLeast), draft_found_);
  const size_t n = std::min(target.size(), draft.size());
  const auto add = [&](Token token) {
    if (static_cast<size_t>(token) >= n) return;
    const float p = target_p[token], q = draft_p[token];
    if (!(std::abs(p - q) > kLeastDifference)) return;
    differing_.push_back(token), difference_.push_back(p - q);
    const float ratio = std::clamp(std::log(p / q), -kMostDifference, kMostDifference);
    logits_.push_back({token, temperature * ratio});
  };
  auto other = draft_found_.begin();
  for (const Token token : found_) {
    while (other != draft_found_.end() && *other < token) add(*other++);
    if (other != draft_found_.end() && *other == token) ++other;
    add(token);
  }
  std::for_each(other, draft_found_.end(), add);
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
