// How many tokens to draft if that is left to the engine ("auto"): as many as make decoding
// fastest, given what calls cost and how many drafted tokens were accepted.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "ersd/learning/cost.h"
#include "ersd/tree/tree_shape.h"

namespace ersd {

// Chooses the k with the most expected tokens per expected millisecond, or 0, plain decoding, if no
// k is faster than that.
//
// Expected tokens are those of i.i.d. ranks (expected_tokens), and expected times come from the
// cost curves. Both are calibrated: multiplied by the ratio of what recent calls brought to what
// was expected of them. Tokens are calibrated for the text at hand too, because a draft that is
// mostly wrong may be right about code. Plain calls teach nothing about the draft. So the
// controller sometimes probes: it drafts for a few calls although that is not expected to pay. The
// budget for what probing costs is one percent of the time of plain calls, and a tenth of what
// drafting saved.
class DraftController {
 public:
  // shapes(k): the shape of the tree with k nodes or fewer.
  using Shapes = std::function<const TreeShape&(int32_t k)>;

  // What one call of each model costs by its width.
  struct Costs {
    const CostCurve& target;
    const CostCurve& draft;
  };

  // What shares the next target call: the sequences that generate in it, and how many tokens it
  // has if nothing is drafted. A sequence's part of the call's time is one of n_sequences.
  struct Load {
    int32_t n_sequences = 1, n_rows = 1;
    // Whether the target reads accepted tokens again after a call that rejected some, see
    // Abilities.
    bool reads_again = false;
  };

  // What the next call is to do and what is expected of it.
  struct Plan {
    int32_t nodes = 0;  // k; 0 for a plain call
    double tokens = 1;  // expected tokens of the target call
    double ms = 0;      // expected time of the target call and of the draft's calls before it,
                        // as far as the sequence is their cause
  };

  // What the controller knows of one text.
  struct Text {
    Plan plan, estimate;      // the last plan after and before calibration
    int32_t calls_left = 0;   // calls for which the plan still holds
    bool is_probing = false;  // whether the plan drafts although that is not expected to pay
    double plain_ms = 0;      // time of a plain call
    // Fading sums of accepted tokens and of those that were expected.
    double accepted = 0, expected = 0;
  };

  // Makes a plan for the next call. One plan holds for a few calls.
  // ranks: P(rank = r), f64[n_ranks].
  // n_missing: how many tokens the draft must read before it can draft.
  const Plan& plan(Text& text, const Shapes& shapes, std::span<const double> ranks,
                   const Costs& costs, const Load& load, int32_t n_missing);

  // Makes the plan for a shape that is already chosen.
  const Plan& plan_fixed(Text& text, const TreeShape& shape, std::span<const double> ranks,
                         const Costs& costs, const Load& load);

  // Returns what is expected of a plain call, and of calls with each k that plan() chooses from.
  std::vector<Plan> forecast(const Shapes& shapes, std::span<const double> ranks,
                             const Costs& costs, const Load& load = {1, 1, false});

  // Learns from a call that followed a text's last plan: how many tokens were drafted and how many
  // of them accepted, and how long it took.
  void learn(Text& text, int32_t n_drafted, int32_t n_accepted, double ms);

  // Forgets what was learnt of times, after the costs have been measured anew. What was saved or
  // lost by costs that were wrong says nothing about the new ones.
  void forget_times();

 private:
  // The fastest way to draft.
  struct Choice {
    Plan plan, estimate;     // after and before calibration
    double speed = 0;        // tokens per millisecond of the plan; 0 if nothing can be drafted
    double speed_limit = 0;  // tokens per millisecond of a draft that is always right
  };

  Choice fastest(const Text& text, const Shapes& shapes, std::span<const double> ranks,
                 const Costs& costs, const Load& load);
  Plan estimate(const TreeShape& shape, std::span<const double> ranks, const Costs& costs,
                const Load& load);
  double tokens_ratio(const Text& text) const;
  Plan calibrated(const Text& text, const Plan& estimate) const;

  std::vector<double> path_;      // working memory
  double probing_budget_ms_ = 0;  // what probing may still cost

  // Fading sums over recent drafting calls of what they brought and of what was expected. They
  // begin as if 4 accepted tokens and 100 ms had come as expected.
  static constexpr double kFirstMs = 100;
  double accepted_ = 4, expected_accepted_ = 4;
  double drafting_ms_ = kFirstMs, expected_ms_ = kFirstMs;
};

}  // namespace ersd
