// Block verification of a chain (Sun et al., arXiv 2403.10444). Rejection sampling token by token
// accepts a token with min(1, target / draft), and so loses where the draft says too much, without
// gaining where it says too little. Here the product of these quotients counts: a chain's beginning
// has the weight w = min(1, weight of the beginning before it * target / draft), and w is the
// probability that at least this beginning is accepted. Tokens that the target likes make up for
// tokens before them.
//
// The longest beginning is accepted whose own variate says so. The whole chain says so with its
// weight w. A shorter beginning says so with rest / (rest + 1 - w), where
//   rest = sum over tokens of max(w * target - draft, 0)
// is what its continuations, as the draft draws them, lack of w times the target's distribution.
// The next token is drawn from this residual, which fills the lack. After the whole chain it is
// drawn from the target. So the tokens have exactly the target's distribution.
#pragma once

#include <cstdint>
#include <span>

#include "ersd/race/noise.h"
#include "ersd/verify/weights.h"

namespace ersd {

// Random numbers are pure functions of seed, position of the root, depth and purpose. Calls must
// not share them. Which beginning is accepted depends on all tokens of the chain, so a number that
// was used at a dropped token is no longer random. Temperatures must be above 0. One thread at a
// time.
class Block {
 public:
  // Draws the token of a chain at a depth, 1 or more; -1 if the draft has none. draft: logits,
  // f32[n_draft_vocab]. root: the position of the chain's root, which no other call has.
  Token draw(std::span<const float> draft, const SamplingOptions& options, uint64_t seed,
             uint32_t root, uint32_t depth);

  // Begins to verify a chain.
  void begin(uint64_t seed, uint32_t root);

  // Whether a longer beginning than that of extend() so far may be accepted.
  bool is_open() const { return weight_ > 0; }

  // Goes on to the next token, which was drawn from this draft. target, draft: logits at the token
  // before it, f32[n_vocab] and f32[n_draft_vocab].
  // Throws std::runtime_error if the target has no finite logit. Then nothing has changed.
  void extend(std::span<const float> target, std::span<const float> draft,
              const SamplingOptions& options, Token token);

  // Ends the chain with the tokens so far, and returns whether all of them are accepted. If they
  // are, end() says what the target's logits are after them; it throws as extend() does.
  bool accept_all();
  void end(std::span<const float> target, const SamplingOptions& options);

  // How many tokens of the chain are accepted.
  int32_t n_accepted() const { return static_cast<int32_t>(n_accepted_); }

  // Draws the token after the accepted ones.
  Token draw_next();

 private:
  double variate(Domain domain, uint32_t index) const {
    return uniform(seed_, root_, domain, index);
  }

  uint64_t seed_ = 0;
  uint32_t root_ = 0;
  uint32_t depth_ = 0, n_accepted_ = 0;  // tokens of the chain so far, and those accepted
  double weight_ = 1;                    // of the tokens so far
  Weights target_, draft_;
  Weights next_;               // what the token after the accepted ones is drawn from
  Token if_nothing_left_ = 0;  // that token if rounding leaves nothing to draw from
};

}  // namespace ersd
