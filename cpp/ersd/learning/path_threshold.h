// How probable a node's path must be so that grown trees have k nodes on average.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ersd {

// Follows the sizes of the trees: a tree with more than k nodes raises the threshold, a smaller one
// lowers it.
class PathThreshold {
 public:
  // Sets k, the average number of nodes. The threshold begins anew if k changes.
  void set_nodes(int32_t k) {
    if (nodes_ == k) return;
    nodes_ = k;
    threshold_ = kFirst / k;
  }

  // Learns from a tree that was grown with this threshold.
  void learn(int32_t n_nodes) {
    const double excess =
        std::clamp((n_nodes - nodes_) / static_cast<double>(nodes_), kLeastExcess, kMostExcess);
    threshold_ = std::clamp(threshold_ * std::exp(kRate * excess), kLeast, kMost);
  }

  void reset() { nodes_ = 0; }

  double value() const { return threshold_; }

 private:
  // The first threshold is 0.6 / k: a guess, which learn() corrects.
  static constexpr double kFirst = 0.6;
  // A tree of 2 k nodes raises the threshold by 5 percent, so that it changes slowly. Trees above
  // 3 k nodes count as 3 k nodes.
  static constexpr double kRate = 0.05, kLeastExcess = -1, kMostExcess = 2;
  // Bounds, which drafts reach that are nearly always right or nearly always wrong.
  static constexpr double kLeast = 1e-4, kMost = 0.9;

  int32_t nodes_ = 0;  // k
  double threshold_ = 0;
};

}  // namespace ersd
