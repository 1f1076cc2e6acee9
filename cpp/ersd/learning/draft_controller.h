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
// was expected of them. Plain calls teach nothing about the draft. So the controller sometimes
// probes: it drafts for a few calls although that is not expected to pay. One percent of the time
// of plain calls is the budget for what probing costs.
class DraftController {
 public:
  // shapes(k): the shape of the tree with k nodes or fewer.
  using Shapes = std::function<const TreeShape&(int32_t k)>;

  // What one call of each model costs by its width.
  struct Costs {
    const CostCurve& target;
    const CostCurve& draft;
  };

  // What the next call is to do and what is expected of it.
  struct Plan {
    int32_t nodes = 0;  // k; 0 for a plain call
    double tokens = 1;  // expected tokens of the target call
    double ms = 0;      // expected time of the target call and of the draft's calls before it
  };

  // Makes a plan for the next call. One plan holds for a few calls.
  // ranks: P(rank = r), f64[n_ranks].
  // n_missing: how many tokens the draft must read before it can draft.
  const Plan& plan(const Shapes& shapes, std::span<const double> ranks, const Costs& costs,
                   int32_t n_missing);

  // Makes the plan for a shape that is already chosen.
  const Plan& plan_fixed(const TreeShape& shape, std::span<const double> ranks, const Costs& costs);

  // Returns what is expected of a plain call, and of calls with each k that plan() chooses from.
  std::vector<Plan> forecast(const Shapes& shapes, std::span<const double> ranks,
                             const Costs& costs);

  const Plan& last_plan() const { return plan_; }

  // Learns from a call that followed the last plan: how many drafted tokens were accepted, and how
  // long it took.
  void learn(int32_t n_accepted, double ms);

  // Makes the next call of plan() choose k again, as at the beginning of a text.
  void replan() { calls_left_ = 0; }

 private:
  // The fastest way to draft.
  struct Choice {
    Plan plan, estimate;     // after and before calibration
    double speed = 0;        // tokens per millisecond of the plan; 0 if nothing can be drafted
    double speed_limit = 0;  // tokens per millisecond of a draft that is always right
  };

  Choice fastest(const Shapes& shapes, std::span<const double> ranks, const Costs& costs);
  Plan estimate(const TreeShape& shape, std::span<const double> ranks, const Costs& costs);
  Plan calibrated(const Plan& estimate) const;

  Plan plan_, estimate_;          // the last plan after and before calibration
  std::vector<double> path_;      // working memory
  int32_t calls_left_ = 0;        // calls for which the plan still holds
  bool is_probing_ = false;       // whether the plan drafts although that is not expected to pay
  double plain_ms_ = 0;           // time of a plain call
  double probing_budget_ms_ = 0;  // what probing may still cost

  // Fading sums over recent drafting calls of what they brought and of what was expected. They
  // begin as if 4 accepted tokens and 100 ms had come as expected.
  double accepted_ = 4, expected_accepted_ = 4;
  double drafting_ms_ = 100, expected_ms_ = 100;
};

}  // namespace ersd
