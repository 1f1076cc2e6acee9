// Verification: follow the target's tokens from the root for as long as they were drafted, or
// verify a chain as a whole.
#pragma once

#include <exception>
#include <functional>
#include <span>
#include <vector>

#include "ersd/tree/draft_tree.h"
#include "ersd/verify/coupling.h"

namespace ersd {

// What verification needs to know of a node. It asks for accepted nodes only, once each. Block
// verification asks for the nodes of a chain from the root on, for the target once each.
struct NodeInputs {
  std::function<std::span<const float>(int32_t node)> target;  // f32[n_vocab], processed logits
  std::function<DraftRow(int32_t node)> draft;                 // empty if the draft was not run
};

// The outcome of a target call.
struct Verified {
  std::vector<int32_t> path;   // the accepted nodes, the root first
  std::vector<Token> emitted;  // the target's token at each of them; the last one was not drafted
  std::vector<int32_t> rank;   // its rank in the draft's order; -1 if the draft was not run there
  // Why verification stopped at a drafted node although its token was accepted; null without an
  // error. Plain decoding would meet this error in its next step.
  std::exception_ptr failure;
};

// Verifies a tree whose root stands at a position, and replaces the contents of `verified`.
// With races this is exact for any tree: the tokens are those that the same races give one by one
// (Kobus and Gündüz, arXiv 2504.15475). With rejection sampling, siblings must be drafted in the
// coupling's order. With block verification the tree must be a chain.
// Throws std::runtime_error if no token is left at the root.
void verify(const DraftTree& tree, const NodeInputs& inputs, uint32_t position, Coupling& coupling,
            Verified& verified);

}  // namespace ersd
