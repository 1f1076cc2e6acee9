// Rejected nodes one after the other, those of the last tree at the end.
#include "ersd/draft/rejected_branches.h"

#include <algorithm>

namespace ersd {
namespace {

constexpr float kShare = 0.5f;  // of the difference that is added
constexpr size_t kMostNodes = 128;

int32_t nearness(Token before, Token token, Token other_before, Token other) {
  return token != other ? 0 : before != other_before ? 1 : 2;
}

}  // namespace

void RejectedBranches::clear() {
  nodes_.clear(), differences_.clear();
  n_trees_ = 0;
}

void RejectedBranches::begin(uint32_t position) {
  ++n_trees_;
  size_t end = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const auto its = of(i);
    if (nodes_[i].position < position || i + kMostNodes < nodes_.size()) continue;
    std::ranges::copy(its, differences_.begin() + static_cast<ptrdiff_t>(end));
    kept_.push_back(nodes_[i]);
    kept_.back().end = end += its.size();
  }
  nodes_.swap(kept_), kept_.clear();
  differences_.resize(end);
}

void RejectedBranches::add(uint32_t position, Token before, Token token,
                           std::span<const Correction::Difference> differences) {
  differences_.insert(differences_.end(), differences.begin(), differences.end());
  nodes_.push_back({position, n_trees_, before, token, differences_.size()});
}

void RejectedBranches::correct(uint32_t position, Token before, Token token,
                               std::span<float> row) const {
  size_t best = nodes_.size();
  int32_t best_nearness = -1;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (node.position != position) continue;
    const int32_t near = nearness(before, token, node.before, node.token);
    const bool is_newer = best < nodes_.size() && node.n_trees > nodes_[best].n_trees;
    if (near > best_nearness || (near == best_nearness && is_newer)) best = i, best_nearness = near;
  }
  if (best == nodes_.size()) return;
  for (const auto& difference : of(best))
    if (static_cast<size_t>(difference.token) < row.size())
      row[static_cast<size_t>(difference.token)] += kShare * difference.logit;
}

}  // namespace ersd
