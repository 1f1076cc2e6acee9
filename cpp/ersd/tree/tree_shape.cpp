// The shapes of the drafting strategies and their expected tokens.
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

const TreeShape& TreeShapeBuilder::build_sequence(int32_t k, int32_t max_depth) {
  shape_.reset();
  for (int32_t i = 0; i < std::min(k, max_depth); ++i) shape_.add(i, 0);
  return shape_;
}

const TreeShape& TreeShapeBuilder::build_batch(int32_t k) {
  shape_.reset();
  for (int32_t i = 0; i < k; ++i) shape_.add(0, i);
  return shape_;
}

const TreeShape& TreeShapeBuilder::build_optimal(std::span<const double> probabilities, int32_t k,
                                                 int32_t max_depth) {
  by_probability_.reset();
  heap_.clear();
  const auto push = [&](double parent_path, int32_t parent, int32_t rank) {
    if (static_cast<size_t>(rank) >= probabilities.size() ||
        by_probability_.depth[parent] >= max_depth)
      return;
    heap_.push_back({parent_path * probabilities[rank], parent_path, parent, rank});
    std::push_heap(heap_.begin(), heap_.end());
  };
  push(1, 0, 0);
  while (by_probability_.size() <= k && !heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate best = heap_.back();
    heap_.pop_back();
    const int32_t node = by_probability_.add(best.parent, best.rank);
    push(best.path, node, 0);
    push(best.parent_path, best.parent, best.rank + 1);
  }
  order_by_level();
  return shape_;
}

// Copies by_probability_ into shape_ level by level, siblings side by side and by rank: this is the
// order in which nodes are drafted.
void TreeShapeBuilder::order_by_level() {
  const TreeShape& from = by_probability_;
  first_child_.assign(from.size() + 1, 0);  // by node of `from`: its first child in children_
  for (int32_t i = 1; i < from.size(); ++i) ++first_child_[from.parent[i] + 1];
  std::partial_sum(first_child_.begin(), first_child_.end(), first_child_.begin());
  children_.resize(from.size());  // nodes of `from`, grouped by parent
  for (int32_t i = 1; i < from.size(); ++i)
    children_[first_child_[from.parent[i]] + from.rank[i]] = i;
  shape_.reset();
  source_.assign(1, 0);  // by node of shape_: its node of `from`
  for (int32_t i = 0; i < shape_.size(); ++i)
    for (int32_t c = first_child_[source_[i]]; c < first_child_[source_[i] + 1]; ++c) {
      source_.push_back(children_[c]);
      shape_.add(i, from.rank[children_[c]]);
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
