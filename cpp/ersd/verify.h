// Verification by races: walk from the root to the target's winner for as long as it was drafted.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "ersd/race.h"
#include "ersd/tree.h"

namespace ersd {

struct Verified {
  std::vector<int32_t> path;   // the accepted nodes from the root on: [0, ...]
  std::vector<Token> emitted;  // the winner at each of them: path.size() tokens, the last of them not drafted
};

// logits(node): the target's row for a node, f32[n_vocab]. position: the root's. Reuses the vectors of `verified`.
// Exact for any tree: the tokens are those that the same races give one by one (Kobus and Gündüz, arXiv 2504.15475).
void verify(const DraftTree& tree, const std::function<std::span<const float>(int32_t)>& logits, const SamplingOptions& options, uint64_t seed,
            uint32_t position, Race& race, Verified& verified);

}  // namespace ersd
