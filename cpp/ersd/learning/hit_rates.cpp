// Hit rates by cells.
#include "ersd/learning/hit_rates.h"

#include <algorithm>
#include <cmath>

namespace ersd {
namespace {

// So many proposals of a cell weigh as much as the wider cell around it, and as the first guess.
constexpr double kNarrowWeight = 6, kWideWeight = 4;

// A cell forgets half of what it counted once it has counted this much.
constexpr float kMostCounted = 512;

constexpr double kLeast = 1e-3;  // cells are not surer than this
constexpr float kBiasRate = 0.4F, kBiasPrior = 0.3F;

constexpr std::array<int32_t, HitRates::kLengths> kLeastLengths{0, 1,  2,  3,  4,  5,
                                                                7, 10, 14, 20, 32, 48};

// First guesses as log-odds, fitted on about 170,000 proposals by lookup in windows of 500 tokens
// of English prose, Python code, and functions that were edited. A length counts by its logarithm.
struct FormGuess {
  double first, by_log_length;
  std::array<double, HitRates::kShares> by_share;
};
constexpr std::array<FormGuess, HitRates::kForms> kForm{{{-1.2, 1.14, {0, -1.93, -0.72, -2.24}},
                                                         {-0.8, 0.63, {0, 0.48, 0.78, 1.02}},
                                                         {-2.8, 0.75, {0, -0.3, -0.97, -1.53}},
                                                         {-4.55, 0.04, {0, 0.2, 0, -0.14}},
                                                         {-2.26, 0.11, {0, -1.25, -1.83, -2.34}},
                                                         {-2.67, 0.18, {0, 0.23, -0.08, 0.06}}}};
constexpr std::array<double, HitRates::kLucks> kLuck{-0.3, 0.05, 0.18, 0};
constexpr double kGrammarGuess = 0.6;  // of the longest token that a grammar allows

double probability(double log_odds) { return 1 / (1 + std::exp(-log_odds)); }
double log_odds(double p) {
  p = std::clamp(p, kLeast, 1 - kLeast);
  return std::log(p / (1 - p));
}

}  // namespace

uint8_t HitRates::length_class(int32_t length) {
  return static_cast<uint8_t>(std::ranges::upper_bound(kLeastLengths, length) -
                              kLeastLengths.begin() - 1);
}

void HitRates::Count::add(bool is_hit) {
  if (all >= kMostCounted) hits /= 2, all /= 2;
  hits += is_hit ? 1.0F : 0.0F;
  all += 1;
}

// The log-odds of a cell without its luck.
double HitRates::guess(const Cell& cell) {
  if (cell.source == kSources - 1) return kGrammarGuess - cell.share;
  const FormGuess& form = kForm[cell.form];
  return form.first + form.by_log_length * std::log1p(kLeastLengths[cell.length]) +
         form.by_share[cell.share];
}

double HitRates::rate(const Cell& cell) const {
  const double around = wide_[wide(cell)].mean(probability(guess(cell)), kWideWeight);
  return narrow_[narrow(cell)].mean(probability(log_odds(around) + kLuck[cell.luck]),
                                    kNarrowWeight);
}

double HitRates::operator()(const Proposal& proposal) const {
  return probability(log_odds(rate(proposal.cell)) + before_[place(proposal.before)].value +
                     token_[place(proposal.token)].value);
}

void HitRates::learn(const Proposal& proposal, bool is_hit) {
  const auto miss = static_cast<float>(is_hit - (*this)(proposal));
  for (Bias* bias : {&before_[place(proposal.before)], &token_[place(proposal.token)]}) {
    bias->squares += miss * miss;
    bias->value += kBiasRate * miss / std::sqrt(bias->squares + kBiasPrior);
  }
  wide_[wide(proposal.cell)].add(is_hit);
  narrow_[narrow(proposal.cell)].add(is_hit);
}

}  // namespace ersd
