// Trees that grow by the probabilities of paths: which tokens may come, at which of them the draft
// model runs, and which of them the target checks.
#include <functional>

#include "ersd/draft/drafter.h"
#include "ersd/stopwatch.h"

namespace ersd {
namespace {

constexpr double kSure = 0.95;       // where texts are surer, the draft model does not run
constexpr double kLeastPath = 1e-3;  // less probable paths are not worth sorting

// Calls cost least where their width fills whole blocks of rows, which have at most this many. If
// so many nodes more were not worth their time, no more of them are.
constexpr int32_t kWidestStep = 8;

double worth_of(double n_tokens, int32_t n_rows, const Price& price) {
  return n_tokens - price.tokens_per_ms * (*price.target_cost)(n_rows);
}

}  // namespace

// Finds the tokens that may follow a node, and how probable each is, in candidates_: what the draft
// model says, if it ran there, and what texts and the grammar propose.
void Drafter::join(DraftedTree& tree, int32_t node) {
  const auto proposed = tree.text_candidates(node);
  candidates_.assign(proposed.begin(), proposed.end());
  const auto row = tree.at(node).logits;
  if (row.empty()) return;
  auto arrivals = tree.at(node).order;
  if (arrivals.empty()) arrivals = keep_order(tree, node, MarginModel::kArrivals);
  tree.margins->predict(arrivals, row, tree.coupling->temperature(), hits_);
  opinions_.clear();
  for (const Candidate& candidate : proposed) opinions_.push_back({0, candidate.hit});
  for (size_t r = 0; r < hits_.size(); ++r) {
    const Token token = arrivals[r].token;
    const auto same = std::ranges::find(candidates_, token, &Candidate::token);
    const auto i = static_cast<size_t>(same - candidates_.begin());
    if (same == candidates_.end()) candidates_.push_back({token}), opinions_.push_back({});
    candidates_[i].hit = opinions_[i].model = hits_[r];
    candidates_[i].sources |= bit(Source::kModel);
  }
  if (proposed.empty()) return;
  agreement_.predict(opinions_, hits_);
  for (size_t i = 0; i < hits_.size(); ++i) candidates_[i].hit = hits_[i];
}

void Drafter::learn_agreement(DraftedTree& tree, int32_t node, Token token) {
  if (!tree.grows() || tree.text_candidates(node).empty() || tree.at(node).order.empty()) return;
  join(tree, node);
  const auto found = std::ranges::find(candidates_, token, &Candidate::token);
  agreement_.learn(opinions_, static_cast<size_t>(found - candidates_.begin()));
}

void Drafter::add_spares(DraftedTree& tree, int32_t node) {
  if (tree.tree.depth(node) >= tree.max_depth) return;
  join(tree, node);
  for (const Candidate& c : candidates_)
    if (const double path = tree.path(node) * c.hit; path >= kLeastPath)
      spare_.push_back({path, &tree, node, c.token, c.sources});
}

// What the best child that the model finds at a node is expected to bring beside what texts propose
// there.
double Drafter::gain_of_running(const DraftedTree& tree, int32_t node) const {
  return kFirstHit * tree.path(node) * (1 - tree.text_hit(node));
}

// Puts a node into the next level, unless texts make it needless that the model runs there.
void Drafter::run_next(DraftedTree& tree, int32_t node, const Price& price) {
  if (tree.tree.depth(node) >= tree.max_depth || tree.text_hit(node) > kSure) return;
  const double cost = cost_(2) - cost_(1) + price.target_cost->ms_per_node();
  const bool is_worth_it = tree.growth != Growth::kWorth || tree.text_candidates(node).empty() ||
                           gain_of_running(tree, node) > price.tokens_per_ms * cost;
  if (is_worth_it) tree.level_.push_back(node);
}

// How many of these tokens, the most probable first, are worth it that the model runs at them: what
// the best children are expected to bring, less the draft's time for the nodes and the target's
// time for the children.
size_t Drafter::n_worth_running(std::span<const Spare> spare, const Price& price) const {
  const double child_cost = price.tokens_per_ms * price.target_cost->ms_per_node();
  double gain = 0, most_worth = 0;
  size_t n_chosen = 0;
  for (size_t n = 1; n <= spare.size(); ++n) {
    gain += kFirstHit * spare[n - 1].path - child_cost;
    const double worth = gain - price.tokens_per_ms * cost_(static_cast<int32_t>(n));
    if (worth > most_worth) most_worth = worth, n_chosen = n;
  }
  return n_chosen;
}

// Moves those of the spare tokens from `first` on into their trees at which the draft may run next.
void Drafter::choose_level(size_t first, const Price& price) {
  if (spare_.size() == first) return;
  const auto begin = spare_.begin() + static_cast<ptrdiff_t>(first);
  const auto by_margins = std::partition(
      begin, spare_.end(), [](const Spare& s) { return s.tree->growth == Growth::kWorth; });
  std::ranges::sort(begin, by_margins, std::greater(), &Spare::path);
  const size_t n_chosen = n_worth_running({begin, by_margins}, price);
  size_t n = 0;
  std::erase_if(spare_, [&](const Spare& spare) {
    const size_t i = n++;
    if (i < first) return false;
    const bool by_worth = spare.tree->growth == Growth::kWorth;
    if (by_worth ? i >= first + n_chosen : !takes(spare)) return false;
    const int32_t node = move_into_tree(spare);
    if (node >= 0) run_next(*spare.tree, node, price);
    return true;
  });
}

// Whether a tree of its own budget takes one more node.
bool Drafter::takes(const Spare& spare) {
  const DraftedTree& tree = *spare.tree;
  const int32_t n = tree.tree.n_drafted();
  if (tree.growth == Growth::kBest) return n < tree.k;
  return n < kMostTimesNodes * tree.k && (n == 0 || spare.path >= threshold(tree).value());
}

// Adds the most probable tokens, and after each of them what texts propose there. Trees that share
// a budget keep those with which the target's call is worth most.
void Drafter::grow(std::span<DraftedTree* const> trees, const Price& price) {
  Worth now{0, price.n_other_rows};
  int32_t n_roots = 0;
  for (DraftedTree* tree : trees) {
    if (!tree->grows()) continue;
    const Stopwatch watch(tree->stats->race_ms);
    for (int32_t node = 0; node < tree->tree.size(); ++node) {
      if (tree->growth == Growth::kWorth) now.tokens += tree->path(node), ++now.width;
      if (tree->rows.raw(node).empty()) add_spares(*tree, node);
    }
    n_roots += tree->growth == Growth::kWorth;
    tree->best_size_ = tree->tree.size();
  }
  const double without = worth_of(n_roots, price.n_other_rows + n_roots, price);
  now.most = worth_of(now.tokens, now.width, price);
  now.best_width = now.width;
  std::ranges::make_heap(spare_, {}, &Spare::path);
  while (!spare_.empty()) {
    std::ranges::pop_heap(spare_, {}, &Spare::path);
    const Spare spare = spare_.back();
    spare_.pop_back();
    DraftedTree& tree = *spare.tree;
    const bool shares = tree.growth == Growth::kWorth;
    if (shares ? now.width > now.best_width + kWidestStep : !takes(spare)) continue;
    const int32_t node = move_into_tree(spare);
    if (node < 0) continue;
    const size_t first = spare_.size();
    add_spares(tree, node);
    for (size_t n = first; n < spare_.size(); ++n)
      std::ranges::push_heap(spare_.begin(), spare_.begin() + static_cast<ptrdiff_t>(n) + 1, {},
                             &Spare::path);
    if (!shares) continue;
    now.tokens += spare.path, ++now.width;
    if (const double worth = worth_of(now.tokens, now.width, price); worth > now.most) {
      now.most = worth, now.best_width = now.width;
      for (DraftedTree* each : trees) each->best_size_ = each->tree.size();
    }
  }
  keep_best(trees, now, without);
}

// If a call without any of the trees that share a budget is worth more, drops them.
void Drafter::keep_best(std::span<DraftedTree* const> trees, const Worth& worth, double without) {
  for (DraftedTree* tree : trees) {
    if (tree->growth != Growth::kWorth) continue;
    if (worth.most < without)
      tree->truncate(1);
    else
      tree->truncate(tree->best_size_);
  }
}

// Returns the new node, or -1 if its tree is full.
int32_t Drafter::move_into_tree(const Spare& spare) {
  return spare.tree->add(spare.parent, spare.token, spare.sources, spare.path);
}

}  // namespace ersd
