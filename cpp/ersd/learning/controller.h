// How many tokens to draft where that is left to the engine: as many as pay, by what calls cost and
// how far the draft has been right.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "ersd/learning/cost.h"
#include "ersd/tree/tree_shape.h"

namespace ersd {

// Chooses the k whose expected tokens per expected millisecond are greatest, and 0, plain decoding,
// where no k is faster.
//
// Expected tokens are those of i.i.d. ranks (expected_tokens), corrected by how many the drafts of
// the last calls had of theirs accepted; expected times come from the cost curves, corrected in the
// same way. While it does not draft it learns nothing of the draft, so now and then it drafts a few
// times to look. What that costs is paid from one percent of the time that plain calls take.
class Controller {
 public:
  using Shape = std::function<const TreeShape&(int32_t k)>;

  // What the next call is to do and what is expected of it.
  struct Plan {
    int32_t nodes = 0;  // k; 0 for a plain call
    double tokens = 1;  // expected of the call
    double ms = 0;      // expected of it and of the draft's calls before it
  };

  // shape(k): the tree of k nodes or fewer. ranks: P(R = r). n_missing: tokens that the draft has
  // yet to read before it can draft.
  const Plan& plan(const Shape& shape, std::span<const double> ranks, const CostCurve& target,
                   const CostCurve& draft, int32_t n_missing);

  // The same for a k that someone else chose.
  const Plan& plan_fixed(const TreeShape& shape, std::span<const double> ranks,
                         const CostCurve& target, const CostCurve& draft);

  // What is expected of a plain call, and of calls with trees of each k that plan() chooses from.
  std::vector<Plan> forecast(const Shape& shape, std::span<const double> ranks,
                             const CostCurve& target, const CostCurve& draft);

  // The last plan.
  const Plan& expected() const { return plan_; }

  // What came of it: drafted tokens that were accepted, and the time it took.
  void learn(int32_t n_accepted, double ms);

  // Plans anew with the next call, as at the beginning of a text.
  void replan() { calls_left_ = 0; }

 private:
  Plan expect(const TreeShape& shape, std::span<const double> ranks, const CostCurve& target,
              const CostCurve& draft);
  Plan corrected(const Plan& expected) const;

  Plan plan_, uncorrected_;
  std::vector<double> path_;  // working memory
  int32_t calls_left_ = 0;    // before the plan is made anew
  bool looking_ = false;      // the plan drafts to learn, not because that is expected to pay
  double plain_ms_ = 0;       // of a call of the target alone
  double credit_ms_ = 0;      // what plain calls have put by for looking
  double accepted_ = 4,
         expected_ = 4;  // drafted tokens of the last calls, beginning as if 4 had come as expected
  double drafting_ms_ = 100, expected_ms_ = 100;  // the same of the time that drafting calls take
};

}  // namespace ersd
