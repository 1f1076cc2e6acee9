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

// The budget for probing: shares of the time of plain calls and of the time that drafting saved.
// Savings of long ago must not pay for long losses, so the budget is limited.
constexpr double kProbingShare = 0.01, kSavedShare = 0.1, kMostBudgetMs = 300;

// The calibration is a mean over about 64 calls. A stalled call counts as one that took three times
// its expected time.
constexpr double kFade = 1 - 1.0 / 64;
constexpr double kStalled = 3;

// The calibration by the text at hand is a mean over about 16 calls. Before them, it counts as if
// this many accepted tokens had come as the calibration by all texts has them.
constexpr double kTextFade = 1 - 1.0 / 16, kTextPrior = 2;

double plain_ms(const DraftController::Costs& costs, const DraftController::Load& load) {
  return costs.target(load.n_rows) / load.n_sequences;
}

}  // namespace

// The target checks the whole tree in one call, with as large trees of the other sequences. The
// draft runs once per level that has children, on the nodes with children, for all of them. Its
// first call also reads the token that it has not seen yet.
DraftController::Plan DraftController::estimate(const TreeShape& shape,
                                                std::span<const double> ranks, const Costs& costs,
                                                const Load& load) {
  const int32_t k = shape.size() - 1;
  const int32_t n = load.n_sequences, width = load.n_rows + n * k;
  Plan plan{k, expected_tokens(shape, ranks, path_), costs.target(width) / n};
  // P(rejected after a nodes) = path[a] - path[a + 1]; then the root and a nodes are read again.
  if (load.reads_again)
    plan.ms += (plan.tokens - (k + 1) * path_.back()) * costs.target.ms_per_node();
  int32_t level = 0, depth = 0, last_parent = -1;
  const auto add_draft_call = [&] {
    if (level > 0) plan.ms += costs.draft(n * (depth == 0 ? level + 1 : level)) / n;
  };
  for (int32_t i = 1; i < shape.size(); ++i) {
    const int32_t parent = shape.parent[i];
    if (parent == last_parent) continue;
    last_parent = parent;
    if (shape.depth[parent] != depth) {
      add_draft_call();
      level = 0;
      depth = shape.depth[parent];
    }
    ++level;
  }
  add_draft_call();
  return plan;
}

// How many tokens are accepted for each that is expected.
double DraftController::tokens_ratio(const Text& text) const {
  const double of_all = accepted_ / expected_accepted_;
  return of_all * (kTextPrior + text.accepted) / (kTextPrior + text.expected * of_all);
}

DraftController::Plan DraftController::calibrated(const Text& text, const Plan& estimate) const {
  return {estimate.nodes, 1 + (estimate.tokens - 1) * tokens_ratio(text),
          estimate.ms * drafting_ms_ / expected_ms_};
}

DraftController::Choice DraftController::fastest(const Text& text, const Shapes& shapes,
                                                 std::span<const double> ranks, const Costs& costs,
                                                 const Load& load) {
  Choice best;
  for (const int32_t k : kNodes) {
    const TreeShape& shape = shapes(k);
    const Plan estimated = estimate(shape, ranks, costs, load);
    const Plan plan = calibrated(text, estimated);
    best.speed_limit = std::max(best.speed_limit, (1.0 + shape.depth.back()) / estimated.ms);
    if (estimated.nodes == 0 || plan.tokens / plan.ms <= best.speed) continue;
    best.plan = plan, best.estimate = estimated;
    best.speed = plan.tokens / plan.ms;
  }
  return best;
}

const DraftController::Plan& DraftController::plan(Text& text, const Shapes& shapes,
                                                   std::span<const double> ranks,
                                                   const Costs& costs, const Load& load,
                                                   int32_t n_missing) {
  text.plain_ms = plain_ms(costs, load);
  if (text.calls_left-- > 0) return text.plan;
  text.calls_left = kCalls - 1;
  const Choice best = fastest(text, shapes, ranks, costs, load);
  const double least_speed = kLeastGain / text.plain_ms;
  // If the draft missed some tokens, it must read them first. The calls of this plan must pay for
  // that.
  const double reading_ms = n_missing > 1 ? costs.draft(n_missing) : 0;
  const double tokens = kCalls * best.plan.tokens, ms = kCalls * best.plan.ms + reading_ms;
  const bool can_draft = best.speed > 0;
  const bool pays = can_draft && tokens / ms > least_speed;
  const double probing_ms =
      reading_ms + kCalls * std::max(best.plan.ms - best.plan.tokens * text.plain_ms, 0.0);
  text.is_probing = !pays && can_draft && load.n_sequences == 1 && best.speed_limit > least_speed &&
                    probing_budget_ms_ > probing_ms;
  text.plan = pays || text.is_probing ? best.plan : Plan{0, 1, text.plain_ms};
  text.estimate = best.estimate;
  return text.plan;
}

const DraftController::Plan& DraftController::plan_fixed(Text& text, const TreeShape& shape,
                                                         std::span<const double> ranks,
                                                         const Costs& costs, const Load& load) {
  text.plain_ms = plain_ms(costs, load);
  text.estimate = estimate(shape, ranks, costs, load);
  text.is_probing = false;
  return text.plan = calibrated(text, text.estimate);
}

std::vector<DraftController::Plan> DraftController::forecast(const Shapes& shapes,
                                                             std::span<const double> ranks,
                                                             const Costs& costs, const Load& load) {
  std::vector<Plan> plans{{0, 1, costs.target(1)}};
  for (const int32_t k : kNodes)
    plans.push_back(calibrated({}, estimate(shapes(k), ranks, costs, load)));
  return plans;
}

void DraftController::learn(Text& text, int32_t n_drafted, int32_t n_accepted, double ms) {
  if (text.plan.nodes == 0) {
    probing_budget_ms_ = std::min(probing_budget_ms_ + kProbingShare * ms, kMostBudgetMs);
    return;
  }
  const double saved_ms = (1 + n_accepted) * text.plain_ms - ms;
  const double credit = saved_ms > 0 ? kSavedShare * saved_ms : text.is_probing ? saved_ms : 0;
  probing_budget_ms_ = std::min(probing_budget_ms_ + credit, kMostBudgetMs);
  text.accepted = kTextFade * text.accepted + n_accepted;
  text.expected = kTextFade * text.expected + text.estimate.tokens - 1;
  accepted_ = kFade * accepted_ + n_accepted;
  expected_accepted_ = kFade * expected_accepted_ + text.estimate.tokens - 1;
  // If no node was worth its time, the target's call was a plain one. Where that comes from calls
  // that once took less time than expected, it must not stay so: that time fades.
  if (n_drafted == 0 && drafting_ms_ >= expected_ms_) return;
  const double taken_ms = n_drafted > 0 ? ms : text.estimate.ms;
  drafting_ms_ = kFade * drafting_ms_ + std::min(taken_ms, kStalled * text.estimate.ms);
  expected_ms_ = kFade * expected_ms_ + text.estimate.ms;
}

void DraftController::forget_times() {
  drafting_ms_ = expected_ms_ = kFirstMs;
  probing_budget_ms_ = 0;
}

}  // namespace ersd
