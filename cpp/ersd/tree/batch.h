// The batch of a draft tree for a model with sequences. A node belongs to the sequences of all
// leaves below it, so each sequence is one path of the tree, and causal attention within sequences
// is tree attention.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/tree/draft_tree.h"

namespace ersd {

struct Batch {
  // Sequence `to` must take over positions [begin, end) of sequence `from` before the batch is
  // decoded.
  struct Copy {
    int32_t from, to, begin, end;
  };

  std::vector<Token> token;       // i32[n]
  std::vector<int32_t> position;  // i32[n]
  std::vector<int32_t> sequence;  // i32[offset[n]], the sequences of all rows, row by row
  std::vector<int32_t> offset;    // i32[n + 1], where the sequences of each row begin in `sequence`
  std::vector<Copy> copies;
  int32_t n_history = 0;  // how many of the first rows are history; the others are nodes
  int32_t n_sequences = 1;

  int32_t size() const { return static_cast<int32_t>(token.size()); }
};

// Lays out a tree that is decoded in one call or in several: the target decodes it at once, the
// draft level by level. The first child that is decoded under a node continues the node's sequence.
// Every other child opens a new sequence.
class BatchLayout {
 public:
  void reset();  // forgets the tree, so that the next call starts another one

  // Returns the batch of some nodes of the tree.
  // history: committed tokens that are not decoded yet, i32[n]. They begin at position `begin` and
  //   belong to every sequence. The root follows the history of the first call.
  // nodes: the nodes to decode, i32[m], in topological order.
  // Throws std::invalid_argument if a node comes before its parent, and std::length_error if the
  // tree needs more than max_sequences. The batch is valid until the next call.
  const Batch& lay_out(std::span<const Token> history, int32_t begin, const DraftTree& tree,
                       std::span<const int32_t> nodes, int32_t max_sequences);

  const Batch& batch() const { return batch_; }  // the last one

  // The sequence of a node, and its row in the batch that it was decoded with; -1 for a node that
  // was not laid out.
  int32_t sequence(int32_t node) const { return is_laid_out(node) ? sequence_[node] : -1; }
  int32_t row(int32_t node) const { return is_laid_out(node) ? row_[node] : -1; }
  int32_t n_sequences() const { return n_sequences_; }

 private:
  bool is_laid_out(int32_t node) const {
    return node >= 0 && static_cast<size_t>(node) < sequence_.size() && sequence_[node] >= 0;
  }
  void begin_batch(std::span<const Token> history, int32_t begin, int32_t n_tree_nodes);
  void place(const DraftTree& tree, int32_t node, int32_t max_sequences);
  void open_sequence(const DraftTree& tree, int32_t node);
  void list_sequences();

  Batch batch_;
  // By tree node: its sequence or -1, its row, the call that decoded it, and whether a child
  // continues its sequence.
  std::vector<int32_t> sequence_, row_, call_;
  std::vector<bool> is_continued_;
  std::vector<std::vector<int32_t>> members_;  // the sequences of each row that is a node
  int32_t n_sequences_ = 1, begin_ = 0, root_position_ = 0, n_calls_ = 0;
};

}  // namespace ersd
