// Draft trees as flat arrays.
#include "ersd/tree/draft_tree.h"

#include <stdexcept>
#include <string>

namespace ersd {

void DraftTree::reset(Token root) {
  token_.assign(1, root);
  sources_.assign(1, 0);
  parent_.assign(1, -1);
  depth_.assign(1, 0);
  first_child_.assign(1, -1);
  last_child_.assign(1, -1);
  next_sibling_.assign(1, -1);
  n_branches_ = 0;
}

int32_t DraftTree::add(int32_t parent, Token token, uint8_t sources) {
  if (parent < 0 || parent >= size())
    throw std::out_of_range("DraftTree.add: parent must be a node from 0 to " +
                            std::to_string(size() - 1) + ", got " + std::to_string(parent));
  const int32_t node = size();
  token_.push_back(token);
  sources_.push_back(sources);
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

// The last node is the last child of its parent, so it can be taken back.
void DraftTree::truncate(int32_t n) {
  while (size() > n) {
    const int32_t node = size() - 1, parent = parent_[node];
    if (first_child_[parent] == node) {
      first_child_[parent] = last_child_[parent] = -1;
    } else {
      int32_t before = first_child_[parent];
      while (next_sibling_[before] != node) before = next_sibling_[before];
      next_sibling_[before] = -1, last_child_[parent] = before;
      --n_branches_;
    }
    token_.pop_back(), sources_.pop_back();
    for (auto* column : {&parent_, &depth_, &first_child_, &last_child_, &next_sibling_})
      column->pop_back();
  }
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
