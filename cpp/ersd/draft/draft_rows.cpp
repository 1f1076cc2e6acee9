// Rows and orders by tree node.
#include "ersd/draft/draft_rows.h"

#include <algorithm>

namespace ersd {

void DraftRows::clear() {
  n_rows_ = 0;
  row_.clear();
  arrivals_.clear();
  order_begin_.clear();
  order_end_.clear();
}

void DraftRows::reserve(size_t n_nodes, size_t n_arrivals) {
  raw_.reserve(n_nodes * n_vocab_);
  arrivals_.reserve(n_arrivals);
}

std::span<float> DraftRows::add(int32_t node, std::span<const float> logits) {
  if (row_.size() <= static_cast<size_t>(node)) row_.resize(static_cast<size_t>(node) + 1, -1);
  row_[node] = static_cast<int32_t>(n_rows_++);
  raw_.resize(std::max(raw_.size(), n_rows_ * n_vocab_));
  const auto row = std::span(raw_).subspan(begin(node), n_vocab_);
  std::copy_n(logits.begin(), n_vocab_, row.begin());
  return row;
}

std::span<float> DraftRows::add_processed(int32_t node) {
  processed_.resize(raw_.size());
  const auto row = std::span(processed_).subspan(begin(node), n_vocab_);
  std::ranges::copy(raw(node), row.begin());
  return row;
}

void DraftRows::add_order(int32_t node, std::span<const Arrival> order) {
  order_begin_.resize(static_cast<size_t>(node) + 1, arrivals_.size());
  order_end_.resize(static_cast<size_t>(node) + 1, arrivals_.size());
  arrivals_.insert(arrivals_.end(), order.begin(), order.end());
  order_end_[node] = arrivals_.size();
}

std::span<const float> DraftRows::raw(int32_t node) const {
  if (!has_row(node)) return {};
  return std::span(raw_).subspan(begin(node), n_vocab_);
}

std::span<const float> DraftRows::processed(int32_t node) const {
  if (!has_row(node)) return {};
  return std::span(processed_).subspan(begin(node), n_vocab_);
}

std::span<const Arrival> DraftRows::order(int32_t node) const {
  if (static_cast<size_t>(node) >= order_begin_.size()) return {};
  return std::span(arrivals_).subspan(order_begin_[node], order_end_[node] - order_begin_[node]);
}

}  // namespace ersd
