// Methods as couplings. A coupling says how the draft's choices at a position and the target's
// depend on each other: in which order the draft's tokens are tried, and which token the target
// emits.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "ersd/race/race.h"
#include "ersd/race/selection.h"
#include "ersd/verify/block.h"
#include "ersd/verify/method.h"
#include "ersd/verify/rejection.h"

namespace ersd {

// The draft at a node.
struct DraftRow {
  std::span<const float> logits;   // f32[n_draft_vocab]; empty if the draft was not run there
  std::span<const Arrival> order;  // the beginning of the draft's order, as far as it is known
};

// Positions count from the beginning of the text. One thread at a time.
class Coupling {
 public:
  static constexpr int32_t kRanks = Rejection::kMaxSiblings;  // stands for all later ranks

  void reset(Method method, const SamplingOptions& options, uint64_t seed) {
    method_ = method, options_ = options, seed_ = seed, shift_ = 0;
  }

  // Follows a context shift that dropped n tokens: positions that are given from now on are n less
  // than before. Clocks keep counting, so no clock is used twice.
  void shift(int32_t n) { shift_ += static_cast<uint32_t>(n); }

  // Returns the draft's order: the first m tokens to try at a position, or fewer if the draft has
  // no more. Scores are those of the race, or 0 for rejection sampling. Block verification tries
  // one token. Valid until the next call.
  // logits: the draft's, f32[n_draft_vocab]. depth: of these tokens in their tree.
  std::span<const Arrival> draft_order(std::span<const float> logits, uint32_t position, size_t m,
                                       uint32_t depth = 1);

  // Samples the target's token at a position. Its rank is its place in the draft's order, or
  // kRanks for all later places, or -1 without a draft. Block verification has none alone.
  // target: logits, f32[n_vocab].
  // Throws std::runtime_error if no token is left that has a probability.
  RankedToken sample(std::span<const float> target, const DraftRow& draft, uint32_t position);

  // Whether a chain is verified as a whole. At temperature 0 nothing is left to draw, so tokens are
  // verified one by one.
  bool verifies_blocks() const { return method_ == Method::kBlock && rejects(); }

  // The steps of block verification (Block) under the options. The token of extend_block() and what
  // follows the tokens of end_block() have this position.
  Block& begin_block(uint32_t root) {
    block_.begin(seed_, root + shift_);
    return block_;
  }
  void extend_block(std::span<const float> target, const DraftRow& draft, Token token,
                    uint32_t position);
  void end_block(std::span<const float> target, uint32_t position);

  float temperature() const { return draft_options().temperature; }

  // The clock of the race at a position.
  Clock race_clock(uint32_t position) const { return clock(position); }

 private:
  // A row after typical-p and XTC, and the options that are left to apply.
  struct Selected {
    std::span<const float> logits;
    SamplingOptions options;
  };

  bool rejects() const { return !is_race(method_) && options_.temperature > 0; }
  Siblings siblings() const {
    return method_ == Method::kGsd ? Siblings::kDistinct : Siblings::kIndependent;
  }
  SamplingOptions draft_options() const {
    return method_ == Method::kMatch ? SamplingOptions{.temperature = 0}.without_truncation()
                                     : options_;
  }
  Clock clock(uint32_t position) const { return {seed_, position + shift_}; }
  Selected select(std::span<const float> logits, const SamplingOptions& options, uint32_t position,
                  Selection& selection) const;
  int32_t rank(Token token, const DraftRow& draft, uint32_t position);

  Method method_ = Method::kErsd;
  SamplingOptions options_;
  uint64_t seed_ = 0;
  uint32_t shift_ = 0;  // tokens that context shifts dropped
  Race race_;
  Rejection rejection_;
  Block block_;
  Selection target_selection_, draft_selection_;
  std::vector<Arrival> order_;  // the siblings of rejection sampling
};

}  // namespace ersd
