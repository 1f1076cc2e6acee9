// The rank histogram: a shipped prior and fading counts.
#include "ersd/histogram.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ersd {
namespace {

constexpr double kPriorWeight = 200;
const double kFade = std::exp2(-1.0 / 2000);

}  // namespace

RankHistogram::RankHistogram() {
  // Placeholder until measured.
  double tail = 0.4;
  weight_[0] = 0.6;
  for (size_t r = 1; r <= kRanks; ++r) weight_[r] = tail / static_cast<double>(r * (r + 1));
  const double total = std::accumulate(weight_.begin(), weight_.end(), 0.0);
  for (double& w : weight_) w *= kPriorWeight / total;
}

void RankHistogram::observe(size_t rank) {
  for (double& w : weight_) w *= kFade;
  weight_[std::min(rank, kRanks)] += 1;
}

std::array<double, RankHistogram::kRanks + 1> RankHistogram::probabilities() const {
  auto p = weight_;
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& w : p) w /= total;
  return p;
}

}  // namespace ersd
