// How often the target's token was the r-th of the draft's race order: the statistic that shapes
// the optimal tree.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "ersd/stats.h"

namespace ersd {

// Ranks 0 to 63 are told apart; the last entry counts all later ones.
class RankHistogram {
 public:
  static constexpr size_t kRanks = ersd::kRanks;

  // Starts from the histogram that ships with the package, weighted like 200 observations.
  RankHistogram();

  // Goes on from weights() of another. Throws std::invalid_argument unless they are finite, not
  // negative and some are positive.
  using Weights = std::array<double, kRanks + 1>;
  explicit RankHistogram(const Weights& weights);

  // Counts one verified position. Older ones fade with a half-life of 2,000 positions, so that the
  // tree follows the text.
  void learn(size_t rank);

  // Probability of each rank, later ones last; f64[65], sums to 1.
  Weights probabilities() const;

  // Faded counts of each rank, later ones last; f64[65].
  const Weights& weights() const { return weight_; }

 private:
  Weights weight_;
};

}  // namespace ersd
