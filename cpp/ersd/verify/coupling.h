// What sets the methods apart: in which order the draft's tokens are tried at a position, and which
// token the target emits there.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "ersd/race/race.h"
#include "ersd/race/selection.h"
#include "ersd/verify/filtered_race.h"
#include "ersd/verify/rejection.h"

namespace ersd {

enum class Method {
  kErsd,    // races with shared clocks: the draft's arrivals, the target's winner
  kAr,      // the target's winner alone
  kGsd,     // greedy rejection sampling with distinct siblings
  kGsdIid,  // the same with independent siblings
  kMatch,   // the draft's most probable tokens, accepted if the target's winner is among them:
            // llama.cpp's rule
};

constexpr size_t kMethods = 5;

// The text of kErsd, kAr and kMatch is one and the same; that of kGsd and kGsdIid is as exact a
// sample, but depends on draft and tree.
constexpr bool is_race(Method method) {
  return method != Method::kGsd && method != Method::kGsdIid;
}

// What is known of a draft at a position.
struct Drafted {
  std::span<const float> row;      // its logits, f32[n_draft_vocab]; empty where it was not run
  std::span<const Arrival> order;  // the beginning of its order, as far as it was asked for
};

class Coupling {
 public:
  static constexpr int32_t kRanks = Rejection::kMaxSiblings;  // later ranks are not told apart

  void reset(Method method, const SamplingOptions& options, uint64_t seed) {
    method_ = method, options_ = options, seed_ = seed, shift_ = 0;
  }

  // Positions given from now on count n tokens less than were generated: clocks of a text that lost
  // its beginning do not come again.
  void shift(int32_t n) { shift_ += static_cast<uint32_t>(n); }

  // The first m tokens to try at a position, by a row of the draft's logits; fewer where it has no
  // more. Scores are those of races, else 0. Valid until the next call.
  std::span<const Arrival> order(std::span<const float> draft, uint32_t position, size_t m);

  // The target's token at a position, and its rank in order(draft.row): kRanks for all later ones,
  // -1 for an empty draft. allowed: the tokens that may come, empty for all; asked about as few as
  // possible, but for rejection sampling and Selection about all. Throws std::runtime_error where
  // no token is left that has a probability.
  RankedToken emit(std::span<const float> target, const Drafted& draft, uint32_t position,
                   const Allowed& allowed = {});

  // Takes from a row of the draft's logits tokens that are not allowed: those among the first
  // arrivals, or for rejection sampling, where the row must not depend on the draws, among the most
  // probable ones.
  void restrict_draft(std::span<float> draft, uint32_t position, const Allowed& allowed);

  float temperature() const { return draft_options().temperature; }

 private:
  bool rejects() const { return !is_race(method_) && options_.temperature > 0; }
  Siblings siblings() const {
    return method_ == Method::kGsd ? Siblings::kDistinct : Siblings::kIndependent;
  }
  // A row after truncation that takes a Selection, and the options that are left then.
  struct Selected {
    std::span<const float> logits;
    SamplingOptions options;
  };
  Selected select(std::span<const float> logits, const SamplingOptions& options, uint32_t position,
                  Selection& selection) const;
  SamplingOptions draft_options() const {
    return method_ == Method::kMatch ? SamplingOptions{0, 0, 1, 0} : options_;
  }

  Method method_ = Method::kErsd;
  SamplingOptions options_;
  uint64_t seed_ = 0;
  uint32_t shift_ = 0;
  Race race_;
  FilteredRace filtered_race_;
  Rejection rejection_;
  Selection target_selection_, draft_selection_;
  std::vector<Arrival> order_;
  std::vector<Token> asked_;
  std::vector<uint8_t> answers_;
};

}  // namespace ersd
