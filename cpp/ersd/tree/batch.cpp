// The batch layout of trees.
#include "ersd/tree/batch.h"

#include <stdexcept>
#include <string>

namespace ersd {

void BatchLayout::reset() {
  sequence_.clear();
  row_.clear();
  call_.clear();
  is_continued_.clear();
  n_sequences_ = 1;
}

const Batch& BatchLayout::lay_out(std::span<const Token> history, int32_t begin,
                                  const DraftTree& tree, std::span<const int32_t> nodes,
                                  int32_t max_sequences) {
  begin_batch(history, begin, tree.size());
  if (members_.size() < nodes.size()) members_.resize(nodes.size());
  for (const int32_t node : nodes) place(tree, node, max_sequences);
  list_sequences();
  return batch_;
}

void BatchLayout::begin_batch(std::span<const Token> history, int32_t begin, int32_t n_tree_nodes) {
  batch_.token.assign(history.begin(), history.end());
  batch_.position.resize(history.size());
  for (size_t i = 0; i < history.size(); ++i) batch_.position[i] = begin + static_cast<int32_t>(i);
  batch_.copies.clear();
  batch_.n_history = static_cast<int32_t>(history.size());
  if (sequence_.empty()) begin_ = begin, root_position_ = begin + batch_.n_history;
  const auto n = static_cast<size_t>(n_tree_nodes);
  sequence_.resize(n, -1);
  row_.resize(n, -1);
  call_.resize(n, -1);
  is_continued_.resize(n, false);
  ++n_calls_;
}

// Adds the row of a node and finds its sequence.
void BatchLayout::place(const DraftTree& tree, int32_t node, int32_t max_sequences) {
  const int32_t parent = tree.parent(node);
  if (parent >= 0 && sequence_[parent] < 0)
    throw std::invalid_argument("lay_out: node " + std::to_string(node) +
                                " comes before its parent " + std::to_string(parent));
  row_[node] = batch_.size();
  call_[node] = n_calls_;
  batch_.token.push_back(tree.token(node));
  batch_.position.push_back(root_position_ + tree.depth(node));
  members_[row_[node] - batch_.n_history].clear();
  if (parent >= 0 && is_continued_[parent]) {
    if (n_sequences_ == max_sequences)
      throw std::length_error("lay_out: a tree needs more than " + std::to_string(max_sequences) +
                              " sequences");
    open_sequence(tree, node);
  } else {
    sequence_[node] = parent < 0 ? 0 : sequence_[parent];
    members_[row_[node] - batch_.n_history].push_back(sequence_[node]);
  }
  if (parent >= 0) is_continued_[parent] = true;
}

// Gives a node a new sequence. Ancestors of the same batch join it; what earlier calls decoded is
// copied into it.
void BatchLayout::open_sequence(const DraftTree& tree, int32_t node) {
  const int32_t opened = n_sequences_++;
  sequence_[node] = opened;
  for (; node >= 0 && call_[node] == n_calls_; node = tree.parent(node))
    members_[row_[node] - batch_.n_history].push_back(opened);
  if (node >= 0)
    batch_.copies.push_back(
        {sequence_[node], opened, begin_, root_position_ + tree.depth(node) + 1});
}

// Writes the sequences of every row into the batch: all of them for history, members_ for nodes.
void BatchLayout::list_sequences() {
  batch_.n_sequences = n_sequences_;
  batch_.offset.assign(1, 0);
  batch_.sequence.clear();
  for (int32_t row = 0; row < batch_.size(); ++row) {
    if (row < batch_.n_history) {
      for (int32_t s = 0; s < n_sequences_; ++s) batch_.sequence.push_back(s);
    } else {
      const auto& members = members_[row - batch_.n_history];
      batch_.sequence.insert(batch_.sequence.end(), members.begin(), members.end());
    }
    batch_.offset.push_back(static_cast<int32_t>(batch_.sequence.size()));
  }
}

}  // namespace ersd
