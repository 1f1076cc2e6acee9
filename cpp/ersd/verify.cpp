// The walk along accepted nodes.
#include "ersd/verify.h"

#include <stdexcept>

namespace ersd {

void verify(const DraftTree& tree, const Rows& target, const Rows& draft, const Filters& filters, uint32_t position, Coupling& coupling,
            Verified& verified) {
  verified.path.clear();
  verified.emitted.clear();
  verified.rank.clear();
  for (int32_t node = 0; node >= 0; node = tree.child(node, verified.emitted.back())) {
    Ranked token;
    try {
      const auto row = target(node);
      const Allowed allowed = filters(node);
      token = coupling.emit(row, draft(node), ++position, allowed);
    } catch (const std::runtime_error&) {
      if (node == 0) throw;
      break;  // no token is left at a drafted one: an answer that ends before it is none the worse
    }
    verified.path.push_back(node);
    verified.emitted.push_back(token.token);
    verified.rank.push_back(token.rank);
  }
}

}  // namespace ersd
