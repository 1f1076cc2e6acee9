// Level by level drafting.
#include "ersd/drafter.h"

#include <algorithm>

#include "ersd/stopwatch.h"

namespace ersd {

void Drafter::draft(std::span<const Token> history, const TreeShape& shape, const SamplingOptions& options, uint64_t seed, DraftTree& tree,
                    Stats& stats) {
  const auto n_shape = static_cast<size_t>(shape.size());
  node_of_.assign(n_shape, -1);
  node_of_[0] = 0;
  first_child_.assign(n_shape, -1);
  for (int32_t i = shape.size() - 1; i > 0; --i) first_child_[shape.parent[i]] = i;
  order_.clear();
  begin_.assign(n_shape, 0);
  end_.assign(n_shape, 0);

  int32_t level_begin = 0;
  while (level_begin < shape.size()) {
    int32_t level_end = level_begin;
    expanded_.clear();
    for (; level_end < shape.size() && shape.depth[level_end] == shape.depth[level_begin]; ++level_end)
      if (node_of_[level_end] >= 0 && first_child_[level_end] >= 0) expanded_.push_back(node_of_[level_end]);
    if (expanded_.empty()) break;
    {
      const Stopwatch watch(stats.draft_ms);
      model_.decode(history, tree, expanded_);
    }
    ++stats.draft_calls;
    const Stopwatch watch(stats.race_ms);
    for (int32_t i = level_begin; i < level_end; ++i) {
      const int32_t node = node_of_[i];
      if (node < 0 || first_child_[i] < 0) continue;
      // All nodes of a depth share one clock: it belongs to the position that their children will take.
      const Clock clock(seed, static_cast<uint32_t>(history.size()) + static_cast<uint32_t>(tree.depth(node)) + 1);
      int32_t most = 0;
      for (int32_t c = first_child_[i]; c < shape.size() && shape.parent[c] == i; ++c) most = std::max(most, shape.rank[c] + 1);
      const size_t m = std::max(static_cast<size_t>(most), RankHistogram::kRanks);
      const auto arrivals = race_.arrivals(model_.logits(node).first(n_vocab_), options, clock, m);
      begin_[node] = static_cast<int32_t>(order_.size());
      for (const Arrival& arrival : arrivals) order_.push_back(arrival.token);
      end_[node] = static_cast<int32_t>(order_.size());
      for (int32_t c = first_child_[i]; c < shape.size() && shape.parent[c] == i; ++c)
        if (static_cast<size_t>(shape.rank[c]) < arrivals.size()) node_of_[c] = tree.add(node, arrivals[shape.rank[c]].token);
    }
    level_begin = level_end;
  }
  stats.drafted += tree.n_drafted();
}

int32_t Drafter::rank(int32_t node, Token token) const {
  if (static_cast<size_t>(node) >= begin_.size() || begin_[node] == end_[node]) return -1;
  const auto begin = order_.begin() + begin_[node], end = order_.begin() + end_[node], found = std::find(begin, end, token);
  return static_cast<int32_t>(found == end ? RankHistogram::kRanks : std::min<size_t>(found - begin, RankHistogram::kRanks));
}

}  // namespace ersd
