// The draft's logits and orders at the nodes of one tree, kept until the tree has been verified.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ersd/race/race.h"

namespace ersd {

class DraftRows {
 public:
  explicit DraftRows(int32_t n_vocab) : n_vocab_(static_cast<size_t>(n_vocab)) {}

  void clear();  // begins another tree in the same memory
  void reserve(size_t n_nodes, size_t n_arrivals);

  // Adds a node's row, a copy of the first n_vocab logits, and returns it for changes in place.
  // Earlier spans of rows become invalid here and in add_processed().
  std::span<float> add(int32_t node, std::span<const float> logits);

  // Removes a node's row, as if the draft had not been run there.
  void remove(int32_t node) { row_[node] = -1; }

  // Copies a node's row for logits processors, and returns the copy for changes in place.
  std::span<float> add_processed(int32_t node);

  // Keeps the beginning of a node's order. Nodes must come in ascending order.
  void add_order(int32_t node, std::span<const Arrival> order);

  // What was added for a node, f32[n_vocab] each; empty if nothing was.
  std::span<const float> raw(int32_t node) const;
  std::span<const float> processed(int32_t node) const;
  std::span<const Arrival> order(int32_t node) const;

 private:
  bool has_row(int32_t node) const {
    return static_cast<size_t>(node) < row_.size() && row_[node] >= 0;
  }
  size_t begin(int32_t node) const { return static_cast<size_t>(row_[node]) * n_vocab_; }

  size_t n_vocab_, n_rows_ = 0;
  std::vector<float> raw_, processed_;           // f32[n_rows, n_vocab] or longer; never shrink
  std::vector<int32_t> row_;                     // by tree node; -1 for none
  std::vector<Arrival> arrivals_;                // the orders of all nodes, one after another
  std::vector<size_t> order_begin_, order_end_;  // by tree node: where its order is in arrivals_
};

}  // namespace ersd
