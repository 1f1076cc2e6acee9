// The shapes of the drafting strategies, and the tokens to expect of them.
#include "ersd/tree/tree_shape.h"

#include <algorithm>
#include <numeric>

namespace ersd {

void TreeShape::reset() {
  parent.assign(1, -1);
  rank.assign(1, 0);
  depth.assign(1, 0);
}

int32_t TreeShape::add(int32_t parent_node, int32_t child_rank) {
  parent.push_back(parent_node);
  rank.push_back(child_rank);
  depth.push_back(depth[parent_node] + 1);
  return size() - 1;
}

const TreeShape& TreeShapeBuilder::sequence(int32_t k, int32_t max_depth) {
  shape_.reset();
  for (int32_t i = 0; i < std::min(k, max_depth); ++i) shape_.add(i, 0);
  return shape_;
}

const TreeShape& TreeShapeBuilder::batch(int32_t k) {
  shape_.reset();
  for (int32_t i = 0; i < k; ++i) shape_.add(0, i);
  return shape_;
}

const TreeShape& TreeShapeBuilder::optimal(std::span<const double> probabilities, int32_t k,
                                           int32_t max_depth) {
  grown_.reset();
  heap_.clear();
  const auto push = [&](double parent_path, int32_t parent, int32_t rank) {
    if (static_cast<size_t>(rank) >= probabilities.size() || grown_.depth[parent] >= max_depth)
      return;
    heap_.push_back({parent_path * probabilities[rank], parent_path, parent, rank});
    std::push_heap(heap_.begin(), heap_.end());
  };
  push(1, 0, 0);
  while (grown_.size() <= k && !heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate best = heap_.back();
    heap_.pop_back();
    const int32_t node = grown_.add(best.parent, best.rank);
    push(best.path, node, 0);
    push(best.parent_path, best.parent, best.rank + 1);
  }
  order_by_level();
  return shape_;
}

// Level by level, siblings side by side and by rank: the order in which they are drafted.
void TreeShapeBuilder::order_by_level() {
  by_parent_.resize(grown_.size());
  first_.assign(grown_.size() + 1, 0);
  for (int32_t i = 1; i < grown_.size(); ++i) ++first_[grown_.parent[i] + 1];
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  for (int32_t i = 1; i < grown_.size(); ++i)
    by_parent_[first_[grown_.parent[i]] + grown_.rank[i]] = i;
  shape_.reset();
  source_.assign(1, 0);  // by node of the shape: its node in grown_
  for (int32_t i = 0; i < shape_.size(); ++i)
    for (int32_t c = first_[source_[i]]; c < first_[source_[i] + 1]; ++c) {
      source_.push_back(by_parent_[c]);
      shape_.add(i, grown_.rank[by_parent_[c]]);
    }
}

double expected_tokens(const TreeShape& shape, std::span<const double> probabilities,
                       std::vector<double>& path) {
  path.assign(shape.size(), 1);
  for (int32_t i = 1; i < shape.size(); ++i) {
    const auto rank = static_cast<size_t>(shape.rank[i]);
    path[i] = path[shape.parent[i]] * (rank < probabilities.size() ? probabilities[rank] : 0);
  }
  return std::accumulate(path.begin(), path.end(), 0.0);
}

}  // namespace ersd
