// Weights and residuals along a chain.
#include "ersd/verify/block.h"

#include <algorithm>
#include <utility>

namespace ersd {

Token Block::draw(std::span<const float> draft, const SamplingOptions& options, uint64_t seed,
                  uint32_t root, uint32_t depth) {
  draft_.read(draft, options);
  if (draft_.total() <= 0) return -1;
  draft_.accumulate();
  return draft_.draw(uniform(seed, root, Domain::kSiblings, depth));
}

void Block::begin(uint64_t seed, uint32_t root) {
  seed_ = seed, root_ = root;
  depth_ = n_accepted_ = 0;
  weight_ = 1;
}

void Block::extend(std::span<const float> target, std::span<const float> draft,
                   const SamplingOptions& options, Token token) {
  target_.read(target, options);
  check_target(target_);
  draft_.read(draft, options);
  const double quotient = target_.probability(token) / draft_.probability(token);
  target_.subtract(weight_, draft_);
  const double rest = target_.total();
  const double share = weight_ < 1 ? rest / (rest + 1 - weight_) : 1;
  if (variate(Domain::kAcceptance, depth_) < share) {
    n_accepted_ = depth_;
    // If target and draft are equal, nothing is left; then rounding alone rejects the next token.
    if_nothing_left_ = token;
    std::swap(next_, target_);
  }
  weight_ = std::min(1.0, weight_ * quotient);
  ++depth_;
}

bool Block::accept_all() {
  if (variate(Domain::kAcceptance, depth_) >= weight_) return false;
  n_accepted_ = depth_;
  return true;
}

void Block::end(std::span<const float> target, const SamplingOptions& options) {
  next_.read(target, options);
  check_target(next_);
}

Token Block::draw_next() {
  if (next_.total() <= 0) return if_nothing_left_;
  next_.accumulate();
  return next_.draw(variate(Domain::kResidual, n_accepted_));
}

}  // namespace ersd
