// The walk along accepted nodes.
#include "ersd/verify/verify.h"

namespace ersd {

void verify(const DraftTree& tree, const Rows& target, const Drafts& draft, const Filters& filters,
            uint32_t position, Coupling& coupling, Verified& verified) {
  verified.path.clear();
  verified.emitted.clear();
  verified.rank.clear();
  verified.failure = nullptr;
  for (int32_t node = 0; node >= 0; node = tree.child(node, verified.emitted.back())) {
    RankedToken token;
    try {
      const auto row = target(node);
      const Allowed allowed = filters(node);
      token = coupling.emit(row, draft(node), ++position, allowed);
    } catch (...) {
      if (node == 0) throw;
      verified.failure =
          std::current_exception();  // an answer that ends before it is none the worse
      break;
    }
    verified.path.push_back(node);
    verified.emitted.push_back(token.token);
    verified.rank.push_back(token.rank);
  }
}

}  // namespace ersd
