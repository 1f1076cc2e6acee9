// Drafting level by level.
#include "ersd/draft/drafter.h"

#include "ersd/stopwatch.h"

namespace ersd {

void Drafter::draft(std::span<DraftedTree* const> trees, const Price& price) {
  spare_.clear();
  for (DraftedTree* tree : trees) begin(*tree, price);
  for (bool is_first = true; run_level(trees, is_first); is_first = false) {
    const size_t first = spare_.size();
    for (DraftedTree* tree : trees)
      if (!tree->level_.empty()) extend(*tree);
    choose_level(first, price);
  }
  grow(trees, price);
  for (DraftedTree* tree : trees) {
    const int32_t n = tree->tree.n_drafted();
    if (tree->growth == Growth::kMargins && (n > 0 || tree->runs_model)) threshold(*tree).learn(n);
    tree->stats->drafted += n;
  }
}

// The model does not run at all where texts are sure enough of the next token.
void Drafter::begin(DraftedTree& tree, const Price& price) {
  if (tree.growth == Growth::kShape) begin_shape(tree);
  if (tree.growth == Growth::kMargins) threshold(tree).set_nodes(tree.k);
  if (tree.grows()) {
    if (tree.texts) tree.texts->reset();
    tree.propose(0);
    tree.level_.clear();
    if (tree.runs_model) run_next(tree, 0, price);
  }
}

// One call of the model for the levels of all trees; keeps its rows. Returns whether there was
// anything to run.
bool Drafter::run_level(std::span<DraftedTree* const> trees, bool is_first) {
  parts_.clear();
  int32_t width = 0;
  for (DraftedTree* tree : trees) {
    const bool reads = is_first && tree->growth == Growth::kRead;
    if (tree->growth == Growth::kNone || tree->growth == Growth::kRead) tree->level_.clear();
    if (tree->level_.empty() && !reads) continue;
    parts_.push_back({tree->place, tree->history, &tree->tree, tree->level_});
    const auto n_tokens = static_cast<int32_t>(tree->history.size() + tree->level_.size()) -
                          model_->n_cached(tree->place) + model_->n_read_again(tree->place);
    tree->stats->draft_tokens += n_tokens;
    width += n_tokens;
  }
  if (parts_.empty()) return false;
  double ms = 0;
  {
    const Stopwatch watch(ms);
    model_->decode(parts_);
  }
  cost_.learn(width, ms);
  for (DraftedTree* tree : trees) {
    if (tree->level_.empty()) continue;
    tree->stats->draft_ms += ms;
    ++tree->stats->draft_calls;
    keep_rows(*tree);
  }
  return true;
}

// A logits processor or a grammar that fails at a node ends the drafting there. If the text comes
// to that node, verification meets the same error.
void Drafter::keep_rows(DraftedTree& tree) {
  const Stopwatch watch(tree.stats->race_ms);
  std::erase_if(tree.level_, [&](int32_t node) {
    const auto logits = tree.rows.add(node, model_->logits(node, tree.place));
    const Token token = tree.tree.token(node);
    if (tree.correction) tree.correction->apply(token, logits);
    if (tree.rejected)
      tree.rejected->correct(tree.child_position(node), tree.token_before(node), token, logits);
    if (!tree.has_processors()) return false;
    try {
      tree.processors->process_draft(tree.history, tree.tree, node, tree.rows.add_processed(node));
      return false;
    } catch (...) {
      tree.rows.remove(node);
      return true;
    }
  });
}

// Finds the children of the level that the model was run at. Those of a shape are added, and are
// the next level.
void Drafter::extend(DraftedTree& tree) {
  const Stopwatch watch(tree.stats->race_ms);
  tree.next_level_.clear();
  if (tree.growth == Growth::kShape) extend_shape(tree);
  if (tree.grows())
    for (const int32_t node : tree.level_) add_spares(tree, node);
  std::swap(tree.level_, tree.next_level_);
}

void Drafter::begin_shape(DraftedTree& tree) {
  const TreeShape& shape = *tree.shape;
  tree.node_of_.assign(static_cast<size_t>(shape.size()), -1);
  tree.node_of_[0] = 0;
  tree.first_child_.assign(static_cast<size_t>(shape.size()), -1);
  for (int32_t i = shape.size() - 1; i > 0; --i) tree.first_child_[shape.parent[i]] = i;
  if (shape.size() == 1) tree.level_.clear();
}

// The nodes of a shape stand level by level, so those of one depth follow each other.
void Drafter::extend_shape(DraftedTree& tree) {
  const TreeShape& shape = *tree.shape;
  const int32_t depth = tree.tree.depth(tree.level_.front());
  const auto begin =
      static_cast<int32_t>(std::ranges::lower_bound(shape.depth, depth) - shape.depth.begin());
  for (int32_t i = begin; i < shape.size() && shape.depth[i] == depth; ++i) {
    const int32_t node = tree.node_of_[i];
    if (node >= 0 && tree.first_child_[i] >= 0 && !tree.at(node).logits.empty())
      add_shape_children(tree, i);
  }
}

// Siblings stand side by side and by rank, so the last one has the greatest rank. Ranks that the
// draft's order does not have are left out.
void Drafter::add_shape_children(DraftedTree& tree, int32_t shape_node) {
  const TreeShape& shape = *tree.shape;
  const int32_t begin = tree.first_child_[shape_node], node = tree.node_of_[shape_node];
  int32_t end = begin;
  while (end < shape.size() && shape.parent[end] == shape_node) ++end;
  const auto order = keep_order(tree, node, static_cast<size_t>(shape.rank[end - 1]) + 1);
  for (int32_t child = begin; child < end; ++child) {
    if (static_cast<size_t>(shape.rank[child]) >= order.size()) continue;
    tree.node_of_[child] = tree.add(node, order[shape.rank[child]].token);
    if (tree.node_of_[child] >= 0 && tree.first_child_[child] >= 0)
      tree.next_level_.push_back(tree.node_of_[child]);
  }
}

// The first m tokens of the draft's order at a node. They are kept for verification and learning.
std::span<const Arrival> Drafter::keep_order(DraftedTree& tree, int32_t node, size_t m) {
  const auto depth = static_cast<uint32_t>(tree.tree.depth(node)) + 1;
  const auto order =
      tree.coupling->draft_order(tree.at(node).logits, tree.child_position(node), m, depth);
  tree.rows.add_order(node, order);
  return order;
}

}  // namespace ersd
