// Verification: walk from the root to the target's token for as long as it was drafted.
#pragma once

#include <exception>
#include <functional>
#include <span>
#include <vector>

#include "ersd/tree/draft_tree.h"
#include "ersd/verify/coupling.h"

namespace ersd {

struct Verified {
  std::vector<int32_t> path;   // the accepted nodes from the root on: [0, ...]
  std::vector<Token> emitted;  // the target's token at each of them: path.size() tokens, the last
                               // of them not drafted
  std::exception_ptr failure;  // why the walk broke off at a drafted node, which plain decoding
                               // would meet in its next step; else null
  std::vector<int32_t> rank;  // its rank in the draft's order there; -1 where the draft was not run
};

// The target's logits of a node, f32[n_vocab], and what is known of the draft there, as the options
// shape them.
using Rows = std::function<std::span<const float>(int32_t)>;
using Drafts = std::function<Drafted(int32_t)>;

// The tokens that may follow a node.
using Filters = std::function<Allowed(int32_t)>;

// position: the root's. Reuses the vectors of `verified`. Exact for any tree whose siblings stand
// in the coupling's order; with races for any tree at all: the tokens are those that the same races
// give one by one (Kobus and Gündüz, arXiv 2504.15475). Rows and filters are asked for at accepted
// nodes alone, once each. Where no token is left the walk ends before, at the root by
// std::runtime_error.
void verify(const DraftTree& tree, const Rows& target, const Drafts& draft, const Filters& filters,
            uint32_t position, Coupling& coupling, Verified& verified);

}  // namespace ersd
