// Draft trees as flat arrays, and their shapes.
#include "ersd/tree.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

namespace ersd {

void DraftTree::reset(Token root) {
  token_.assign(1, root);
  parent_.assign(1, -1);
  depth_.assign(1, 0);
  first_child_.assign(1, -1);
  last_child_.assign(1, -1);
  next_sibling_.assign(1, -1);
}

int32_t DraftTree::add(int32_t parent, Token token) {
  if (parent < 0 || parent >= size())
    throw std::out_of_range("DraftTree.add: parent must be a node from 0 to " + std::to_string(size() - 1) + ", got " + std::to_string(parent));
  const int32_t node = size();
  token_.push_back(token);
  parent_.push_back(parent);
  depth_.push_back(depth_[parent] + 1);
  first_child_.push_back(-1);
  last_child_.push_back(-1);
  next_sibling_.push_back(-1);
  (first_child_[parent] < 0 ? first_child_[parent] : next_sibling_[last_child_[parent]]) = node;
  last_child_[parent] = node;
  return node;
}

int32_t DraftTree::child(int32_t node, Token token) const {
  int32_t child = first_child_[node];
  while (child >= 0 && token_[child] != token) child = next_sibling_[child];
  return child;
}

void DraftTree::path(int32_t node, std::vector<int32_t>& path) const {
  path.resize(static_cast<size_t>(depth_[node]) + 1);
  for (int32_t n = node; n >= 0; n = parent_[n]) path[depth_[n]] = n;
}

int32_t TreeShape::add(int32_t parent_node, int32_t child_rank) {
  parent.push_back(parent_node);
  rank.push_back(child_rank);
  depth.push_back(parent_node < 0 ? 0 : depth[parent_node] + 1);
  return size() - 1;
}

TreeShape sequence_shape(int32_t k, int32_t max_depth) {
  TreeShape shape;
  shape.add(-1, 0);
  for (int32_t i = 0; i < std::min(k, max_depth); ++i) shape.add(i, 0);
  return shape;
}

TreeShape batch_shape(int32_t k) {
  TreeShape shape;
  shape.add(-1, 0);
  for (int32_t i = 0; i < k; ++i) shape.add(0, i);
  return shape;
}

TreeShape optimal_shape(std::span<const double> probabilities, int32_t k, int32_t max_depth) {
  struct Candidate {
    double path, parent_path;
    int32_t parent, rank;
    bool operator<(const Candidate& other) const { return path < other.path; }
  };
  TreeShape grown;  // in the order of their probability
  grown.add(-1, 0);
  std::vector<Candidate> heap;
  const auto push = [&](double parent_path, int32_t parent, int32_t rank) {
    if (static_cast<size_t>(rank) >= probabilities.size() || grown.depth[parent] >= max_depth) return;
    heap.push_back({parent_path * probabilities[rank], parent_path, parent, rank});
    std::push_heap(heap.begin(), heap.end());
  };
  push(1, 0, 0);
  while (grown.size() <= k && !heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    const int32_t node = grown.add(best.parent, best.rank);
    push(best.path, node, 0);
    push(best.parent_path, best.parent, best.rank + 1);
  }
  // Level by level, siblings side by side and by rank: the order in which they are drafted.
  std::vector<int32_t> by_parent(grown.size() - 1), first(grown.size() + 1, 0);
  for (int32_t i = 1; i < grown.size(); ++i) ++first[grown.parent[i] + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  for (int32_t i = 1; i < grown.size(); ++i) by_parent[first[grown.parent[i]] + grown.rank[i]] = i;
  TreeShape shape;
  std::vector<int32_t> source{0};  // by node of the shape: its node in grown
  shape.add(-1, 0);
  for (int32_t i = 0; i < shape.size(); ++i)
    for (int32_t c = first[source[i]]; c < first[source[i] + 1]; ++c) {
      source.push_back(by_parent[c]);
      shape.add(i, grown.rank[by_parent[c]]);
    }
  return shape;
}

double expected_tokens(const TreeShape& shape, std::span<const double> probabilities) {
  std::vector<double> path(shape.size(), 1);
  for (int32_t i = 1; i < shape.size(); ++i) {
    const auto rank = static_cast<size_t>(shape.rank[i]);
    path[i] = path[shape.parent[i]] * (rank < probabilities.size() ? probabilities[rank] : 0);
  }
  return std::accumulate(path.begin(), path.end(), 0.0);
}

}  // namespace ersd
