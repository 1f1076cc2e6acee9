// Drafting level by level.
#include "ersd/draft/drafter.h"

#include "ersd/stopwatch.h"

namespace ersd {
namespace {

constexpr int32_t kMostTimesNodes = 4;  // a grown tree has at most this many times k nodes

// Before the race at a node is seen, its best child is expected to win with at most this
// probability.
constexpr double kFirstHit = 0.8;

uint32_t child_position(std::span<const Token> history, const DraftTree& tree, int32_t node) {
  return static_cast<uint32_t>(history.size()) + static_cast<uint32_t>(tree.depth(node)) + 1;
}

}  // namespace

void Drafter::draft(const Request& request, const TreeShape& shape) {
  rows_.clear();
  begin_shape(shape);
  for (int32_t begin = 0, end = 0; begin < shape.size(); begin = end) {
    level_.clear();
    for (; end < shape.size() && shape.depth[end] == shape.depth[begin]; ++end)
      if (node_of_[end] >= 0 && first_child_[end] >= 0) level_.push_back(node_of_[end]);
    if (level_.empty()) break;
    run(request, level_, correction_);
    const Stopwatch watch(request.stats.race_ms);
    for (int32_t i = begin; i < end; ++i)
      if (node_of_[i] >= 0 && first_child_[i] >= 0) add_children(request, shape, i);
  }
  request.stats.drafted += request.tree.n_drafted();
}

void Drafter::begin_shape(const TreeShape& shape) {
  node_of_.assign(static_cast<size_t>(shape.size()), -1);
  node_of_[0] = 0;
  first_child_.assign(static_cast<size_t>(shape.size()), -1);
  for (int32_t i = shape.size() - 1; i > 0; --i) first_child_[shape.parent[i]] = i;
}

// Siblings stand side by side and by rank, so the last one has the greatest rank.
void Drafter::add_children(const Request& request, const TreeShape& shape, int32_t shape_node) {
  const int32_t begin = first_child_[shape_node], node = node_of_[shape_node];
  int32_t end = begin;
  while (end < shape.size() && shape.parent[end] == shape_node) ++end;
  const auto order = keep_order(request, node, static_cast<size_t>(shape.rank[end - 1]) + 1);
  for (int32_t child = begin; child < end; ++child)
    if (static_cast<size_t>(shape.rank[child]) < order.size())
      node_of_[child] = request.tree.add(node, order[shape.rank[child]].token);
}

void Drafter::grow(const Request& request, const Growth& growth, MarginModel& margins) {
  const int32_t most = std::min(kMostTimesNodes * growth.k, kMaxDraftNodes);
  const auto most_rows = static_cast<size_t>(most) + 1;
  threshold_.set_nodes(growth.k);
  rows_.reserve(most_rows, most_rows * MarginModel::kArrivals);
  rows_.clear();
  spare_.clear();
  path_.assign(1, 1.0);
  level_.assign(1, 0);
  for (int32_t depth = 0; depth < growth.max_depth && !level_.empty(); ++depth) {
    const double ms = cost_(static_cast<int32_t>(level_.size()));
    if (depth > 0 && promised_tokens() < growth.min_tokens_per_ms * ms) break;
    run(request, level_, correction_);
    const Stopwatch watch(request.stats.race_ms);
    next_level_.clear();
    for (const int32_t node : level_) add_probable_children(request, node, most, margins);
    std::swap(level_, next_level_);
  }
  threshold_.learn(request.tree.n_drafted());
  if (growth.target_cost) fill(request, growth.target_cost->widest_at_cost_of(request.tree.size()));
  request.stats.drafted += request.tree.n_drafted();
}

// Adds the most probable of the spare children until the tree has n_nodes.
void Drafter::fill(const Request& request, int32_t n_nodes) {
  const auto n =
      std::min(spare_.size(), static_cast<size_t>(std::max(n_nodes - request.tree.size(), 0)));
  std::partial_sort(spare_.begin(), spare_.begin() + static_cast<ptrdiff_t>(n), spare_.end(),
                    [](const Spare& a, const Spare& b) { return a.path > b.path; });
  for (const Spare& spare : std::span(spare_).first(n)) request.tree.add(spare.parent, spare.token);
}

// The expected number of accepted tokens among the best children of the level.
double Drafter::promised_tokens() const {
  double tokens = 0;
  for (const int32_t node : level_) tokens += kFirstHit * path_[node];
  return tokens;
}

// Every tree has at least one drafted node, the root's first arrival.
void Drafter::add_probable_children(const Request& request, int32_t node, int32_t most,
                                    MarginModel& margins) {
  DraftTree& tree = request.tree;
  const auto arrivals = keep_order(request, node, MarginModel::kArrivals);
  margins.predict(arrivals, at(node).logits, request.coupling.temperature(), hits_);
  for (size_t r = 0; r < hits_.size() && tree.n_drafted() < most; ++r) {
    const double path = path_[node] * hits_[r];
    if (path < threshold_.value() && tree.n_drafted() > 0) {
      spare_.push_back({path, node, arrivals[r].token});
      continue;
    }
    const int32_t child = tree.add(node, arrivals[r].token);
    path_.push_back(path);
    if (kFirstHit * path >= threshold_.value()) next_level_.push_back(child);
  }
}

void Drafter::run_root(const Request& request) {
  rows_.clear();
  level_.assign(1, 0);
  run(request, level_, nullptr);
}

// One call of the model; keeps its rows.
void Drafter::run(const Request& request, std::span<const int32_t> nodes,
                  const Correction* correction) {
  const auto& [history, coupling, tree, stats] = request;
  const auto width = static_cast<int32_t>(history.size() + nodes.size()) - model_.n_cached();
  double ms = 0;
  {
    const Stopwatch watch(ms);
    model_.decode(history, tree, nodes);
  }
  cost_.learn(width, ms);
  stats.draft_ms += ms;
  ++stats.draft_calls;
  const Stopwatch watch(stats.race_ms);
  for (const int32_t node : nodes) {
    const auto logits = rows_.add(node, model_.logits(node));
    if (correction) correction->apply(tree.token(node), logits);
    if (has_processors()) process(request, node);
  }
}

void Drafter::process(const Request& request, int32_t node) {
  const auto& [history, coupling, tree, stats] = request;
  const auto logits = rows_.add_processed(node);
  processors_->process_draft(history, tree, node, logits);
  if (const Allowed allowed = processors_->allowed(history, tree, node))
    coupling.restrict_draft(logits, child_position(history, tree, node), allowed);
}

// The first m tokens of the draft's order at a node. They are kept for verification and learning.
std::span<const Arrival> Drafter::keep_order(const Request& request, int32_t node, size_t m) {
  const auto order = request.coupling.draft_order(
      at(node).logits, child_position(request.history, request.tree, node), m);
  rows_.add_order(node, order);
  return order;
}

}  // namespace ersd
