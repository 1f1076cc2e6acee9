// The tree, its limits, and what texts and the grammar propose in it.
#include "ersd/draft/drafted_tree.h"

#include <algorithm>
#include <functional>

namespace ersd {
namespace {

constexpr size_t kFewTokens = 8;  // a grammar that allows more tokens proposes none

}  // namespace

void DraftedTree::reset(Token root) {
  tree.reset(root);
  rows.clear();
  level_.assign(1, 0);
  path_.assign(1, 1.0);
  candidates_.clear(), first_candidate_.clear(), n_candidates_.clear();
}

int32_t DraftedTree::add(int32_t parent, Token token, Sources sources, double path) {
  if (tree.n_drafted() >= max_nodes) return -1;
  if (tree.n_branches() >= max_branches && tree.has_child(parent)) return -1;
  const int32_t node = tree.add(parent, token, sources);
  if (!grows()) return node;
  path_.push_back(path);
  if (texts) texts->add(parent, token);
  propose(node);
  return node;
}

void DraftedTree::truncate(int32_t n) {
  tree.truncate(n);
  if (!grows()) return;
  const auto size = static_cast<size_t>(n);
  path_.resize(size);
  if (texts) texts->truncate(n);
  candidates_.resize(first_candidate_[size - 1] + n_candidates_[size - 1]);
  first_candidate_.resize(size), n_candidates_.resize(size);
}

double DraftedTree::text_hit(int32_t node) const {
  double hit = 0;
  for (const Candidate& candidate : text_candidates(node)) hit = std::max(hit, candidate.hit);
  return hit;
}

// Keeps what texts and the grammar propose after a node. A path at its greatest depth needs none.
void DraftedTree::propose(int32_t node) {
  proposed_.clear();
  if (tree.depth(node) < max_depth) {
    const Clock clock = coupling->race_clock(child_position(node));
    if (texts)
      texts->propose(node, coupling->temperature() > 0 ? &clock : nullptr, *rates, proposed_);
    if (processors && processors->has_grammar()) apply_grammar(node);
  }
  first_candidate_.push_back(candidates_.size());
  n_candidates_.push_back(proposed_.size());
  candidates_.insert(candidates_.end(), proposed_.begin(), proposed_.end());
}

// Drops what the grammar does not allow, and proposes what it allows where it allows little. A
// token that it leaves no choice about is certain. Otherwise longer tokens are likelier: a model
// writes a name in few tokens. If the grammar fails, nothing is drafted here; verification meets
// the same error if it comes here.
void DraftedTree::apply_grammar(int32_t node) {
  try {
    const TokenMask mask = processors->mask(history, tree, node);
    std::erase_if(proposed_, [mask](const Candidate& c) { return !is_in(mask, c.token); });
    if (!follows_grammar) return;
    list_tokens(mask, kFewTokens, allowed_);
    if (allowed_.size() == 1) {
      proposed_.assign(1, {allowed_[0], 1.0, bit(Source::kGrammar)});
      return;
    }
    std::ranges::stable_sort(allowed_, std::greater(),
                             [this](Token token) { return processors->length(token); });
    for (size_t n = 0; n < std::min(allowed_.size(), HitRates::kShares); ++n)
      texts->propose_by_grammar(node, tree.token(node), allowed_[n],
                                static_cast<int32_t>(allowed_.size()), n, *rates, proposed_);
  } catch (...) {
    proposed_.clear();
  }
}

}  // namespace ersd
