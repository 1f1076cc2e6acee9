// How often the target's token was the r-th of the draft's order. The optimal tree follows from it.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "ersd/stats.h"

namespace ersd {

// Counts of ranks 0 to 63, and one count for all later ranks. Older counts fade.
class RankHistogram {
 public:
  static constexpr size_t kRanks = kHistogramRanks;
  using Weights = std::array<double, kRanks + 1>;

  // Starts with the histogram that ships with the package, which weighs as much as 200 positions.
  RankHistogram();

  // Starts with the weights of another histogram. Throws std::invalid_argument unless they are
  // finite and not negative, and some are positive.
  explicit RankHistogram(const Weights& weights);

  // Counts one verified position. Older positions fade with a half-life of 2,000 positions, so that
  // the tree follows the text.
  void learn(size_t rank);

  // P(rank = r), f64[65], sums to 1; the last entry is that of all later ranks.
  Weights probabilities() const;

  // The faded counts, f64[65].
  const Weights& weights() const { return weights_; }

 private:
  Weights weights_;
};

}  // namespace ersd
