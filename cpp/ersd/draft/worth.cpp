// Trees that grow while that pays: which nodes of all trees are worth their time.
#include <functional>
#include <numeric>

#include "ersd/draft/drafter.h"

namespace ersd {
namespace {

constexpr double kLeastPath = 1e-3;  // less probable paths are not worth sorting

}  // namespace

void Drafter::add_spare_children(DraftedTree& tree) {
  for (const int32_t node : tree.level_) {
    std::span<const Arrival> arrivals;
    predict_hits(tree, node, arrivals);
    for (size_t r = 0; r < hits_.size(); ++r)
      if (const double path = tree.path_[node] * hits_[r]; path >= kLeastPath)
        spare_.push_back({path, &tree, node, arrivals[r].token});
  }
}

// Chooses the nodes of the next level at which the draft runs, among the spare children from
// `first` on. A node is worth what its best child is expected to bring, less the draft's time for
// the node and the target's time for the child.
void Drafter::choose_level(size_t first, const Price& price) {
  if (spare_.size() == first) return;
  const auto spare = std::span(spare_).subspan(first);
  std::ranges::sort(spare, std::greater(), &Spare::path);
  const double child_cost = price.tokens_per_ms * price.target_cost->ms_per_node();
  double gain = 0, most_worth = 0;
  size_t n_chosen = 0;
  for (size_t n = 1; n <= spare.size(); ++n) {
    gain += kFirstHit * spare[n - 1].path - child_cost;
    const double worth = gain - price.tokens_per_ms * cost_(static_cast<int32_t>(n));
    if (worth > most_worth) most_worth = worth, n_chosen = n;
  }
  for (const Spare& chosen : spare.first(n_chosen)) {
    DraftedTree& tree = *chosen.tree;
    const int32_t node = move_into_tree(chosen);
    if (node >= 0 && tree.tree.depth(node) < tree.max_depth) tree.level_.push_back(node);
  }
  spare_.erase(spare_.begin() + static_cast<ptrdiff_t>(first),
               spare_.begin() + static_cast<ptrdiff_t>(first + n_chosen));
}

// Adds the spare children with which the target's call is worth most. If a call without any of
// these trees is worth more, drops them.
void Drafter::choose_nodes(std::span<DraftedTree* const> trees, const Price& price) {
  double tokens = 0;
  int32_t n_roots = 0, width = price.n_other_rows;
  for (const DraftedTree* tree : trees) {
    if (tree->growth != Growth::kWorth) continue;
    tokens += std::accumulate(tree->path_.begin(), tree->path_.end(), 0.0);
    width += tree->tree.size();
    ++n_roots;
  }
  if (n_roots == 0) return;
  const auto worth = [&](double n_tokens, int32_t n_rows) {
    return n_tokens - price.tokens_per_ms * (*price.target_cost)(n_rows);
  };
  std::ranges::sort(spare_, std::greater(), &Spare::path);
  const double without = worth(n_roots, price.n_other_rows + n_roots);
  double most_worth = worth(tokens, width);
  size_t n_chosen = 0;
  for (size_t n = 1; n <= spare_.size(); ++n) {
    tokens += spare_[n - 1].path;
    if (const double w = worth(tokens, width + static_cast<int32_t>(n)); w > most_worth)
      most_worth = w, n_chosen = n;
  }
  if (most_worth < without) {
    for (DraftedTree* tree : trees)
      if (tree->growth == Growth::kWorth) tree->tree.reset(tree->tree.token(0));
    return;
  }
  for (const Spare& chosen : std::span(spare_).first(n_chosen)) move_into_tree(chosen);
}

// Returns the new node, or -1 if its tree is full.
int32_t Drafter::move_into_tree(const Spare& spare) {
  const int32_t node = spare.tree->add(spare.parent, spare.token);
  if (node < 0) return node;
  spare.tree->path_.push_back(spare.path);
  return node;
}

}  // namespace ersd
