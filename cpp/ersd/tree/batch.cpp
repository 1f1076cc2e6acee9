// The batch layout of trees.
#include "ersd/tree/batch.h"

#include <stdexcept>
#include <string>

namespace ersd {

void BatchLayout::reset() {
  sequence_.clear();
  row_.clear();
  call_.clear();
  continued_.clear();
  n_sequences_ = 1;
}

const Batch& BatchLayout::lay_out(std::span<const Token> history, int32_t begin,
                                  const DraftTree& tree, std::span<const int32_t> nodes,
                                  int32_t max_sequences) {
  Batch& b = batch_;
  b.token.assign(history.begin(), history.end());
  b.position.resize(history.size());
  for (size_t i = 0; i < history.size(); ++i) b.position[i] = begin + static_cast<int32_t>(i);
  b.copies.clear();
  b.n_history = static_cast<int32_t>(history.size());
  if (sequence_.empty()) begin_ = begin, root_position_ = begin + b.n_history;
  sequence_.resize(tree.size(), -1);
  row_.resize(tree.size(), -1);
  call_.resize(tree.size(), -1);
  continued_.resize(tree.size(), false);
  if (members_.size() < nodes.size()) members_.resize(nodes.size());

  const int32_t first_row = b.n_history;
  ++n_calls_;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const int32_t node = nodes[i], parent = tree.parent(node),
                  position = root_position_ + tree.depth(node);
    if (parent >= 0 && sequence_[parent] < 0)
      throw std::invalid_argument("lay_out: node " + std::to_string(node) +
                                  " comes before its parent " + std::to_string(parent));
    b.token.push_back(tree.token(node));
    b.position.push_back(position);
    row_[node] = first_row + static_cast<int32_t>(i);
    call_[node] = n_calls_;
    members_[i].clear();
    if (parent < 0 || !continued_[parent]) {
      sequence_[node] = parent < 0 ? 0 : sequence_[parent];
      members_[i].push_back(sequence_[node]);
    } else {
      if (n_sequences_ == max_sequences)
        throw std::length_error("lay_out: a tree needs more than " + std::to_string(max_sequences) +
                                " sequences");
      const int32_t fresh = n_sequences_++;
      sequence_[node] = fresh;
      members_[i].push_back(fresh);
      int32_t ancestor = parent;
      for (; ancestor >= 0 && call_[ancestor] == n_calls_; ancestor = tree.parent(ancestor))
        members_[row_[ancestor] - first_row].push_back(fresh);
      if (ancestor >= 0)
        b.copies.push_back(
            {sequence_[ancestor], fresh, begin_, root_position_ + tree.depth(ancestor) + 1});
    }
    if (parent >= 0) continued_[parent] = true;
  }
  b.n_sequences = n_sequences_;
  b.offset.assign(1, 0);
  b.sequence.clear();
  for (int32_t row = 0; row < b.size(); ++row) {
    if (row < first_row)
      for (int32_t s = 0; s < n_sequences_; ++s) b.sequence.push_back(s);
    else
      b.sequence.insert(b.sequence.end(), members_[row - first_row].begin(),
                        members_[row - first_row].end());
    b.offset.push_back(static_cast<int32_t>(b.sequence.size()));
  }
  return b;
}

}  // namespace ersd
