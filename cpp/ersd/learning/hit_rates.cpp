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

double HitRates::guess(const Cell& cell) {
  if (cell.source == kSources - 1) return 0.8 / (1 + cell.share);
  const double length = kLeastLengths[cell.length] + (cell.form == 1 ? 4.0 : 0.0);
  return (1 - std::pow(0.72, length)) / (1 + cell.share + 0.5 * cell.form);
}

double HitRates::rate(const Cell& cell) const {
  const double around = wide_[wide(cell)].mean(guess(cell), kWideWeight);
  return narrow_[narrow(cell)].mean(around, kNarrowWeight);
}

double HitRates::operator()(const Proposal& proposal) const {
  const double p = std::clamp(rate(proposal.cell), kLeast, 1 - kLeast);
  const double log_odds = std::log(p / (1 - p)) + before_[place(proposal.before)].value +
                          token_[place(proposal.token)].value;
  return 1 / (1 + std::exp(-log_odds));
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
