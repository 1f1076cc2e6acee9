// Greedy rejection sampling (GSD), the baseline of the races. The draft's siblings are tried one
// after another. Each is accepted with probability min(1, residual / draft); if it is rejected, the
// residual becomes max(residual - draft, 0), normalised. With one sibling this is the rule of
// Leviathan et al. (arXiv 2211.17192) and Chen et al. (arXiv 2302.01318). Independent siblings are
// those of SpecInfer (arXiv 2305.09781), distinct ones those of Sequoia (arXiv 2402.12374) and
// recursive speculative decoding (arXiv 2402.14160).
#pragma once

#include <span>
#include <vector>

#include "ersd/race/race.h"
#include "ersd/verify/weights.h"

namespace ersd {

// Whether siblings are drawn without or with replacement.
enum class Siblings { kDistinct, kIndependent };

// A token and its rank, that is its place in the order in which the draft's tokens are tried; the
// first one has rank 0.
struct RankedToken {
  Token token;
  int32_t rank;
};

// Random numbers are pure functions of seed, position and purpose. All nodes of one depth may share
// them, because earlier positions alone decide which of these nodes is reached. Temperatures must
// be above 0. One thread at a time.
class Rejection {
 public:
  static constexpr int32_t kMaxSiblings = 256;

  // Draws the first m siblings of a node in the order in which they are tried; fewer if the draft
  // has no more. draft: logits, f32[n_draft_vocab]. Valid until the next call.
  std::span<const Token> draw_siblings(std::span<const float> draft, const SamplingOptions& options,
                                       Siblings kind, uint64_t seed, uint32_t position, size_t m);

  // Samples a token that has exactly the target's distribution. Its rank is that of the accepted
  // sibling, kMaxSiblings if none of that many was accepted, or -1 without a draft. More siblings
  // are tried than a tree has, because that is the same as sampling from the residual.
  // target, draft: logits, f32[n_vocab] and f32[n_draft_vocab]; an empty draft samples the target.
  // Throws std::runtime_error if the target has no finite logit.
  RankedToken sample(std::span<const float> target, std::span<const float> draft,
                     const SamplingOptions& options, Siblings kind, uint64_t seed,
                     uint32_t position);

 private:
  void draw_independent(uint64_t seed, uint32_t position, size_t m);

  Race race_;
  Weights target_;  // the residual
  Weights draft_;   // without rejected distinct siblings
  std::vector<Token> siblings_;
};

}  // namespace ersd
