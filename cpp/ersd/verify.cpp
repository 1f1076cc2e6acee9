// The walk.
#include "ersd/verify.h"

namespace ersd {

void verify(const DraftTree& tree, const std::function<std::span<const float>(int32_t)>& logits, const SamplingOptions& options, uint64_t seed,
            uint32_t position, Race& race, Verified& verified) {
  verified.path.clear();
  verified.emitted.clear();
  for (int32_t node = 0; node >= 0; node = tree.child(node, verified.emitted.back())) {
    const Clock clock(seed, ++position);
    verified.path.push_back(node);
    verified.emitted.push_back(race.winner(logits(node), options, clock).token);
  }
}

}  // namespace ersd
