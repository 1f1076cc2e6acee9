// How nodes of a tree become one batch of a decoder with sequences: a token belongs to the
// sequences of all leaves below it, so that each sequence is one path and plain causal attention
// within sequences is tree attention.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/tree/draft_tree.h"

namespace ersd {

struct Batch {
  struct Copy {
    int32_t from, to, begin, end;  // sequence `to` takes over positions [begin, end) of sequence
                                   // `from`, before the batch is decoded
  };
  std::vector<Token> token;       // i32[n]
  std::vector<int32_t> position;  // i32[n]
  std::vector<int32_t> offset;    // i32[n + 1]: row i's sequences are sequence[offset[i]] to
                                  // sequence[offset[i + 1] - 1]
  std::vector<int32_t> sequence;  // i32[offset[n]]
  std::vector<Copy> copies;
  int32_t n_history = 0;  // leading rows that are history, not nodes
  int32_t n_sequences = 1;

  int32_t size() const { return static_cast<int32_t>(token.size()); }
};

// Lays out a tree that is decoded in one or several calls (the target at once, the draft level by
// level). The first child decoded under a node continues its sequence; each further one opens a new
// sequence.
class BatchLayout {
 public:
  void reset();  // forget the tree: the next call starts another one

  // history: committed tokens that are not decoded yet, the first at position begin; they belong to
  // every sequence. nodes: in topological order, parents decoded before or within; the root's
  // position is begin + history.size() in the first call. Throws std::invalid_argument where a
  // node's parent is neither, std::length_error past max_sequences.
  const Batch& lay_out(std::span<const Token> history, int32_t begin, const DraftTree& tree,
                       std::span<const int32_t> nodes, int32_t max_sequences);

  // Of a node that was laid out: its sequence, and its row in its batch. -1 for others.
  int32_t sequence(int32_t node) const { return known(node) ? sequence_[node] : -1; }
  int32_t row(int32_t node) const { return known(node) ? row_[node] : -1; }
  int32_t n_sequences() const { return n_sequences_; }

 private:
  bool known(int32_t node) const {
    return node >= 0 && static_cast<size_t>(node) < sequence_.size() && sequence_[node] >= 0;
  }

  Batch batch_;
  std::vector<int32_t> sequence_, row_, call_;  // by node; call_: in which call it was laid out
  std::vector<bool> continued_;                 // a node's own sequence has gone to its first child
  std::vector<std::vector<int32_t>> members_;
  int32_t n_sequences_ = 1, begin_ = 0, root_position_ = 0, n_calls_ = 0;
};

}  // namespace ersd
