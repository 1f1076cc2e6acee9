// Greedy rejection sampling (GSD), the baseline of the races: the draft's siblings are tried one
// after another, each accepted with probability min(1, residual / draft), and what a rejected one
// could have covered leaves the residual. With one sibling it is the rule of Leviathan et al.
// (arXiv 2211.17192) and Chen et al. (arXiv 2302.01318); independent siblings are SpecInfer's
// (arXiv 2305.09781), distinct ones those of Sequoia (arXiv 2402.12374) and recursive speculative
// decoding (arXiv 2402.14160).
#pragma once

#include <span>
#include <vector>

#include "ersd/race/race.h"

namespace ersd {

enum class Siblings { kDistinct, kIndependent };  // drawn without, or with replacement

// A token, and its place in the order in which a draft's tokens are tried, 0 the first.
struct RankedToken {
  Token token;
  int32_t rank;
};

// Draws are pure functions of seed, position and their purpose. They need not differ from branch to
// branch: whether a branch is taken depends on earlier positions alone. Temperatures must be above
// 0. One thread at a time.
class Rejection {
 public:
  static constexpr int32_t kMaxSiblings = 256;

  // The first m siblings of a node in the order in which they are tried; fewer where the draft has
  // no more. Valid until the next call.
  std::span<const Token> siblings(std::span<const float> draft, const SamplingOptions& options,
                                  Siblings kind, uint64_t seed, uint32_t position, size_t m);

  // A token with exactly the target's distribution. rank is that of the accepted sibling,
  // kMaxSiblings where none of so many is. The walk does not end with the siblings that a tree
  // holds: to go on trying is to sample from their residual. target, draft: logits, f32[n_vocab]
  // each; an empty draft is sampling from the target, with rank -1. Throws std::runtime_error where
  // the target has no finite logit.
  RankedToken sample(std::span<const float> target, std::span<const float> draft,
                     const SamplingOptions& options, Siblings kind, uint64_t seed,
                     uint32_t position);

 private:
  double read(std::span<const float> logits, const SamplingOptions& options,
              std::vector<float>& weights);
  void draw_independent(double total, uint64_t seed, uint32_t position, size_t m);

  Row row_;
  Truncation truncation_;
  Race race_;
  std::vector<float> target_, draft_;  // weights: the residual; the draft's distribution, without
                                       // rejected siblings where they are distinct
  std::vector<double> cumulative_;     // of the draft, by block
  std::vector<Token> siblings_;
};

}  // namespace ersd
