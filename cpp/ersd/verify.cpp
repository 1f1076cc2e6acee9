// The walk along accepted nodes.
#include "ersd/verify.h"

namespace ersd {

void verify(const DraftTree& tree, const Rows& target, const Rows& draft, const Filters& filters, uint32_t position, Coupling& coupling,
            Verified& verified) {
  verified.path.clear();
  verified.emitted.clear();
  verified.rank.clear();
  for (int32_t node = 0; node >= 0; node = tree.child(node, verified.emitted.back())) {
    const auto row = target(node);
    const Allowed allowed = filters(node);
    const Ranked token = coupling.emit(row, draft(node), ++position, allowed);
    verified.path.push_back(node);
    verified.emitted.push_back(token.token);
    verified.rank.push_back(token.rank);
  }
}

}  // namespace ersd
