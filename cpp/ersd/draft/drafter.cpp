// Level by level drafting.
#include "ersd/draft/drafter.h"

#include <cmath>

#include "ersd/stopwatch.h"

namespace ersd {

void Drafter::draft(std::span<const Token> history, const TreeShape& shape, Coupling& coupling,
                    DraftTree& tree, Stats& stats) {
  const auto n_shape = static_cast<size_t>(shape.size());
  node_of_.assign(n_shape, -1);
  node_of_[0] = 0;
  first_child_.assign(n_shape, -1);
  for (int32_t i = shape.size() - 1; i > 0; --i) first_child_[shape.parent[i]] = i;
  clear();

  int32_t level_begin = 0;
  while (level_begin < shape.size()) {
    int32_t level_end = level_begin;
    expanded_.clear();
    for (; level_end < shape.size() && shape.depth[level_end] == shape.depth[level_begin];
         ++level_end)
      if (node_of_[level_end] >= 0 && first_child_[level_end] >= 0)
        expanded_.push_back(node_of_[level_end]);
    if (expanded_.empty()) break;
    run(history, tree, expanded_, correction_, coupling, stats);
    const Stopwatch watch(stats.race_ms);
    for (int32_t i = level_begin; i < level_end; ++i) {
      const int32_t node = node_of_[i];
      if (node < 0 || first_child_[i] < 0) continue;
      int32_t most = 0;
      for (int32_t c = first_child_[i]; c < shape.size() && shape.parent[c] == i; ++c)
        most = std::max(most, shape.rank[c] + 1);
      const auto order = take_order(history, tree, node, static_cast<size_t>(most), coupling);
      for (int32_t c = first_child_[i]; c < shape.size() && shape.parent[c] == i; ++c)
        if (static_cast<size_t>(shape.rank[c]) < order.size())
          node_of_[c] = tree.add(node, order[shape.rank[c]].token);
    }
    level_begin = level_end;
  }
  stats.drafted += tree.n_drafted();
}

void Drafter::grow(std::span<const Token> history, int32_t k, int32_t max_depth, double worth,
                   Coupling& coupling, MarginModel& margins, DraftTree& tree, Stats& stats) {
  constexpr double kFirst =
      0.8;  // what the best child of a node may be expected to hit at most, before its race is seen
  const int32_t most = std::min(4 * k, kMaxDraftNodes);
  if (threshold_nodes_ != k) {
    threshold_nodes_ = k, threshold_ = 0.6 / k;
    rows_.reserve(static_cast<size_t>(most + 1) * static_cast<size_t>(n_vocab_));
    order_.reserve(static_cast<size_t>(most + 1) * MarginModel::kArrivals);
  }
  clear();
  path_.assign(1, 1.0);
  expanded_.assign(1, 0);
  for (int32_t depth = 0; depth < max_depth && !expanded_.empty(); ++depth) {
    double promise = 0;
    for (const int32_t node : expanded_) promise += kFirst * path_[node];
    if (depth > 0 && promise < worth * cost_(static_cast<int32_t>(expanded_.size()))) break;
    run(history, tree, expanded_, correction_, coupling, stats);
    const Stopwatch watch(stats.race_ms);
    next_.clear();
    for (const int32_t node : expanded_) {
      const auto arrivals = take_order(history, tree, node, MarginModel::kArrivals, coupling);
      margins.predict(arrivals, row(node), coupling.temperature(), hits_);
      for (size_t r = 0; r < hits_.size() && tree.n_drafted() < most; ++r) {
        const double path = path_[node] * hits_[r];
        if (path < threshold_ && tree.n_drafted() > 0) continue;
        const int32_t child = tree.add(node, arrivals[r].token);
        path_.push_back(path);
        if (kFirst * path >= threshold_) next_.push_back(child);
      }
    }
    std::swap(expanded_, next_);
  }
  stats.drafted += tree.n_drafted();
  // Trees of k nodes on average: a larger one raises the threshold, a smaller one lowers it.
  threshold_ = std::clamp(
      threshold_ *
          std::exp(0.05 * std::clamp((tree.n_drafted() - k) / static_cast<double>(k), -1.0, 2.0)),
      1e-4, 0.9);
}

void Drafter::draft_root(std::span<const Token> history, const DraftTree& tree, Coupling& coupling,
                         Stats& stats) {
  clear();
  const int32_t root = 0;
  run(history, tree, {&root, 1}, nullptr, coupling, stats);
}

void Drafter::run(std::span<const Token> history, const DraftTree& tree,
                  std::span<const int32_t> nodes, const Correction* correction, Coupling& coupling,
                  Stats& stats) {
  const auto width = static_cast<int32_t>(history.size() + nodes.size()) - model_.n_cached();
  double ms = 0;
  {
    const Stopwatch watch(ms);
    model_.decode(history, tree, nodes);
  }
  cost_.learn(width, ms);
  stats.draft_ms += ms;
  ++stats.draft_calls;
  row_of_.resize(static_cast<size_t>(tree.size()), -1);
  const Stopwatch watch(stats.race_ms);
  const auto n_vocab = static_cast<size_t>(n_vocab_);
  rows_.resize(std::max(rows_.size(), (n_rows_ + nodes.size()) * n_vocab));
  for (const int32_t node : nodes) {
    row_of_[node] = static_cast<int32_t>(n_rows_);
    const auto kept = std::span(rows_).subspan(n_rows_++ * n_vocab, n_vocab);
    std::copy_n(model_.logits(node).begin(), n_vocab, kept.begin());
    if (correction) correction->apply(tree.token(node), kept);
  }
  if (processing()) process_rows(history, tree, nodes, coupling);
}

void Drafter::process_rows(std::span<const Token> history, const DraftTree& tree,
                           std::span<const int32_t> nodes, Coupling& coupling) {
  const auto n_vocab = static_cast<size_t>(n_vocab_);
  processed_.resize(rows_.size());
  for (const int32_t node : nodes) {
    const auto processed =
        std::span(processed_).subspan(static_cast<size_t>(row_of_[node]) * n_vocab, n_vocab);
    std::ranges::copy(raw_row(node), processed.begin());
    processors_->draft(history, tree, node, processed);
    if (const Allowed allowed = processors_->allowed(history, tree, node))
      coupling.restrict_draft(processed, child_position(history, tree, node), allowed);
  }
}

void Drafter::clear() {
  row_of_.clear();
  n_rows_ = 0;
  order_.clear();
  begin_.clear();
  end_.clear();
}

// Valid until the next; kept for order().
std::span<const Arrival> Drafter::take_order(std::span<const Token> history, const DraftTree& tree,
                                             int32_t node, size_t m, Coupling& coupling) {
  const auto order = coupling.order(row(node), child_position(history, tree, node), m);
  begin_.resize(static_cast<size_t>(node) + 1, order_.size());
  end_.resize(static_cast<size_t>(node) + 1, order_.size());
  begin_[node] = order_.size();
  order_.insert(order_.end(), order.begin(), order.end());
  end_[node] = order_.size();
  return order;
}

std::span<const Arrival> Drafter::order(int32_t node) const {
  if (static_cast<size_t>(node) >= begin_.size()) return {};
  return std::span(order_).subspan(begin_[node], end_[node] - begin_[node]);
}

std::span<const float> Drafter::kept_row(const std::vector<float>& rows, int32_t node) const {
  if (static_cast<size_t>(node) >= row_of_.size() || row_of_[node] < 0) return {};
  const auto n_vocab = static_cast<size_t>(n_vocab_);
  return std::span(rows).subspan(static_cast<size_t>(row_of_[node]) * n_vocab, n_vocab);
}

}  // namespace ersd
