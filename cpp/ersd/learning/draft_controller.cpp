// Planning by expected tokens per expected millisecond.
#include "ersd/learning/draft_controller.h"

#include <algorithm>
#include <array>

namespace ersd {
namespace {

constexpr std::array<int32_t, 20> kNodes{1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                         11, 12, 13, 14, 15, 16, 20, 24, 32, 48};
constexpr int32_t kCalls = 4;  // how many calls follow one plan

// Drafting must be this many times as fast as plain decoding.
constexpr double kLeastGain = 1.02;

// The share of the time of plain calls that probing may cost.
constexpr double kProbingShare = 0.01;

// The calibration is a mean over about 64 calls. A stalled call counts as one that took three times
// its expected time.
constexpr double kFade = 1 - 1.0 / 64;
constexpr double kStalled = 3;

}  // namespace

// The target checks the whole tree in one call. The draft runs once per level that has children, on
// the nodes with children. Its first call also reads the token that it has not seen yet.
DraftController::Plan DraftController::estimate(const TreeShape& shape,
                                                std::span<const double> ranks, const Costs& costs) {
  Plan plan{shape.size() - 1, expected_tokens(shape, ranks, path_), costs.target(shape.size())};
  int32_t width = 0, depth = 0, last_parent = -1;
  const auto add_draft_call = [&] {
    if (width > 0) plan.ms += costs.draft(depth == 0 ? width + 1 : width);
  };
  for (int32_t i = 1; i < shape.size(); ++i) {
    const int32_t parent = shape.parent[i];
    if (parent == last_parent) continue;
    last_parent = parent;
    if (shape.depth[parent] != depth) {
      add_draft_call();
      width = 0;
      depth = shape.depth[parent];
    }
    ++width;
  }
  add_draft_call();
  return plan;
}

DraftController::Plan DraftController::calibrated(const Plan& estimate) const {
  return {estimate.nodes, 1 + (estimate.tokens - 1) * accepted_ / expected_accepted_,
          estimate.ms * drafting_ms_ / expected_ms_};
}

DraftController::Choice DraftController::fastest(const Shapes& shapes,
                                                 std::span<const double> ranks,
                                                 const Costs& costs) {
  Choice best;
  for (const int32_t k : kNodes) {
    const TreeShape& shape = shapes(k);
    const Plan estimated = estimate(shape, ranks, costs);
    const Plan plan = calibrated(estimated);
    best.speed_limit = std::max(best.speed_limit, (1.0 + shape.depth.back()) / estimated.ms);
    if (estimated.nodes == 0 || plan.tokens / plan.ms <= best.speed) continue;
    best.plan = plan, best.estimate = estimated;
    best.speed = plan.tokens / plan.ms;
  }
  return best;
}

const DraftController::Plan& DraftController::plan(const Shapes& shapes,
                                                   std::span<const double> ranks,
                                                   const Costs& costs, int32_t n_missing) {
  plain_ms_ = costs.target(1);
  if (calls_left_-- > 0) return plan_;
  calls_left_ = kCalls - 1;
  const Choice best = fastest(shapes, ranks, costs);
  const double least_speed = kLeastGain * (1 / plain_ms_);
  // If the draft missed some tokens, it must read them first. The calls of this plan must pay for
  // that.
  const double reading_ms = n_missing > 1 ? costs.draft(n_missing) : 0;
  const double tokens = kCalls * best.plan.tokens, ms = kCalls * best.plan.ms + reading_ms;
  const bool can_draft = best.speed > 0;
  const bool pays = can_draft && tokens / ms > least_speed;
  const double probing_ms =
      reading_ms + kCalls * std::max(best.plan.ms - best.plan.tokens * plain_ms_, 0.0);
  is_probing_ =
      !pays && can_draft && best.speed_limit > least_speed && probing_budget_ms_ > probing_ms;
  plan_ = pays || is_probing_ ? best.plan : Plan{0, 1, plain_ms_};
  estimate_ = best.estimate;
  return plan_;
}

const DraftController::Plan& DraftController::plan_fixed(const TreeShape& shape,
                                                         std::span<const double> ranks,
                                                         const Costs& costs) {
  plain_ms_ = costs.target(1);
  estimate_ = estimate(shape, ranks, costs);
  is_probing_ = false;
  return plan_ = calibrated(estimate_);
}

std::vector<DraftController::Plan> DraftController::forecast(const Shapes& shapes,
                                                             std::span<const double> ranks,
                                                             const Costs& costs) {
  std::vector<Plan> plans{{0, 1, costs.target(1)}};
  for (const int32_t k : kNodes) plans.push_back(calibrated(estimate(shapes(k), ranks, costs)));
  return plans;
}

void DraftController::learn(int32_t n_accepted, double ms) {
  if (plan_.nodes == 0) {
    probing_budget_ms_ += kProbingShare * ms;
    return;
  }
  if (is_probing_) probing_budget_ms_ -= std::max(ms - (1 + n_accepted) * plain_ms_, 0.0);
  accepted_ = kFade * accepted_ + n_accepted;
  expected_accepted_ = kFade * expected_accepted_ + estimate_.tokens - 1;
  drafting_ms_ = kFade * drafting_ms_ + std::min(ms, kStalled * estimate_.ms);
  expected_ms_ = kFade * expected_ms_ + estimate_.ms;
}

}  // namespace ersd
