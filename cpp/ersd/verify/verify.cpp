// The walk along accepted nodes, and along a chain.
#include "ersd/verify/verify.h"

namespace ersd {
namespace {

// Looks at the nodes of a chain from the root on. An error at a node ends the chain there: plain
// decoding meets it if all tokens so far are accepted, and else knows nothing of it.
void walk_chain(const DraftTree& tree, const NodeInputs& inputs, uint32_t position,
                Coupling& coupling, Block& block, Verified& verified) {
  for (int32_t node = 0; block.is_open(); ++node) {
    ++position;
    const bool is_end = !tree.has_child(node);
    if (is_end && !block.accept_all()) return;
    try {
      const auto target = inputs.target(node);
      if (is_end) return coupling.end_block(target, position);
      coupling.extend_block(target, inputs.draft(node), tree.token(node + 1), position);
    } catch (...) {
      if (node == 0) throw;
      if (is_end || block.accept_all()) verified.failure = std::current_exception();
      return;
    }
  }
}

// The nodes of a chain are numbered from the root on.
void verify_chain(const DraftTree& tree, const NodeInputs& inputs, uint32_t position,
                  Coupling& coupling, Verified& verified) {
  Block& block = coupling.begin_block(position);
  walk_chain(tree, inputs, position, coupling, block, verified);
  for (int32_t node = 0; node <= block.n_accepted(); ++node) {
    const bool is_drafted = node < block.n_accepted();
    if (!is_drafted && verified.failure) break;
    verified.path.push_back(node);
    verified.emitted.push_back(is_drafted ? tree.token(node + 1) : block.draw_next());
    const bool has_draft = !inputs.draft(node).logits.empty();
    verified.rank.push_back(is_drafted ? 0 : has_draft ? Coupling::kRanks : -1);
  }
}

}  // namespace

void verify(const DraftTree& tree, const NodeInputs& inputs, uint32_t position, Coupling& coupling,
            Verified& verified) {
  verified.path.clear();
  verified.emitted.clear();
  verified.rank.clear();
  verified.failure = nullptr;
  if (coupling.verifies_blocks()) return verify_chain(tree, inputs, position, coupling, verified);
  for (int32_t node = 0; node >= 0; node = tree.child(node, verified.emitted.back())) {
    RankedToken token;
    try {
      const auto target = inputs.target(node);
      token = coupling.sample(target, inputs.draft(node), ++position);
    } catch (...) {
      // The tokens before this node are right, and the answer may end with them.
      if (node == 0) throw;
      verified.failure = std::current_exception();
      break;
    }
    verified.path.push_back(node);
    verified.emitted.push_back(token.token);
    verified.rank.push_back(token.rank);
  }
}

}  // namespace ersd
