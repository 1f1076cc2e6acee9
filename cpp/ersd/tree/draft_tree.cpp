// Draft trees as flat arrays.
#include "ersd/tree/draft_tree.h"

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
  n_branches_ = 0;
}

int32_t DraftTree::add(int32_t parent, Token token) {
  if (parent < 0 || parent >= size())
    throw std::out_of_range("DraftTree.add: parent must be a node from 0 to " +
                            std::to_string(size() - 1) + ", got " + std::to_string(parent));
  const int32_t node = size();
  token_.push_back(token);
  parent_.push_back(parent);
  depth_.push_back(depth_[parent] + 1);
  first_child_.push_back(-1);
  last_child_.push_back(-1);
  next_sibling_.push_back(-1);
  n_branches_ += has_child(parent);
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

}  // namespace ersd
