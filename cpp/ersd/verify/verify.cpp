// The walk along accepted nodes.
#include "ersd/verify/verify.h"

namespace ersd {

void verify(const DraftTree& tree, const NodeInputs& inputs, uint32_t position, Coupling& coupling,
            Verified& verified) {
  verified.path.clear();
  verified.emitted.clear();
  verified.rank.clear();
  verified.failure = nullptr;
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
