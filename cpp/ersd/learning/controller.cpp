// Planning by expected tokens over expected time.
#include "ersd/learning/controller.h"

#include <algorithm>
#include <array>

namespace ersd {
namespace {

constexpr std::array<int32_t, 12> kNodes{1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 48};
constexpr int32_t kCalls = 4;   // that one plan holds
constexpr double kGain = 1.02;  // drafting must be faster than this many times plain decoding
constexpr double kLook = 0.01;  // share of the time that may go to looking whether drafting pays
constexpr double kMemory = 1 - 1.0 / 64;  // of corrections, per call

}  // namespace

Controller::Plan Controller::expect(const TreeShape& shape, std::span<const double> ranks,
                                    const CostCurve& target, const CostCurve& draft) {
  Plan plan{shape.size() - 1, expected_tokens(shape, ranks, path_), target(shape.size())};
  // A level's call has the nodes with children; the first also reads the token that the draft has
  // not seen yet.
  int32_t width = 0, depth = 0, last_parent = -1;
  const auto call = [&] { plan.ms += width > 0 ? draft(depth == 0 ? width + 1 : width) : 0; };
  for (int32_t i = 1; i < shape.size(); ++i) {
    const int32_t parent = shape.parent[i];
    if (parent == last_parent) continue;
    last_parent = parent;
    if (shape.depth[parent] != depth) {
      call();
      width = 0;
      depth = shape.depth[parent];
    }
    ++width;
  }
  call();
  return plan;
}

Controller::Plan Controller::corrected(const Plan& expected) const {
  return {expected.nodes, 1 + (expected.tokens - 1) * accepted_ / expected_,
          expected.ms * drafting_ms_ / expected_ms_};
}

const Controller::Plan& Controller::plan_fixed(const TreeShape& shape,
                                               std::span<const double> ranks,
                                               const CostCurve& target, const CostCurve& draft) {
  plain_ms_ = target(1);
  uncorrected_ = expect(shape, ranks, target, draft);
  looking_ = false;
  return plan_ = corrected(uncorrected_);
}

std::vector<Controller::Plan> Controller::forecast(const Shape& shape,
                                                   std::span<const double> ranks,
                                                   const CostCurve& target,
                                                   const CostCurve& draft) {
  std::vector<Plan> plans{{0, 1, target(1)}};
  for (const int32_t k : kNodes) plans.push_back(corrected(expect(shape(k), ranks, target, draft)));
  return plans;
}

const Controller::Plan& Controller::plan(const Shape& shape, std::span<const double> ranks,
                                         const CostCurve& target, const CostCurve& draft,
                                         int32_t n_missing) {
  plain_ms_ = target(1);
  if (calls_left_-- > 0) return plan_;
  calls_left_ = kCalls - 1;
  Plan best, raw;
  double best_speed = 0,
         limit = 0;  // tokens per millisecond; the limit is that of a draft that is always right
  for (const int32_t k : kNodes) {
    const TreeShape& tree = shape(k);
    const Plan expected = expect(tree, ranks, target, draft);
    const Plan likely = corrected(expected);
    limit = std::max(limit, (1.0 + tree.depth.back()) / expected.ms);
    if (expected.nodes == 0 || likely.tokens / likely.ms <= best_speed) continue;
    best = likely, raw = expected;
    best_speed = likely.tokens / likely.ms;
  }
  const double plain_speed = 1 / plain_ms_;
  // Once the draft lags behind, going on costs reading what it missed; that must pay within the
  // plan's calls.
  const double reading = n_missing > 1 ? draft(n_missing) : 0;
  const bool pays =
      best_speed > 0 && kCalls * best.tokens / (kCalls * best.ms + reading) > kGain * plain_speed;
  const double price = reading + kCalls * std::max(best.ms - best.tokens * plain_ms_, 0.0);
  looking_ = !pays && best_speed > 0 && limit > kGain * plain_speed && credit_ms_ > price;
  plan_ = pays || looking_ ? best : Plan{0, 1, plain_ms_};
  uncorrected_ = raw;
  return plan_;
}

void Controller::learn(int32_t n_accepted, double ms) {
  if (plan_.nodes == 0) {
    credit_ms_ += kLook * ms;
    return;
  }
  if (looking_) credit_ms_ -= std::max(ms - (1 + n_accepted) * plain_ms_, 0.0);
  accepted_ = kMemory * accepted_ + n_accepted;
  expected_ = kMemory * expected_ + uncorrected_.tokens - 1;
  drafting_ms_ = kMemory * drafting_ms_ + std::min(ms, 3 * uncorrected_.ms);
  expected_ms_ = kMemory * expected_ms_ + uncorrected_.ms;
}

}  // namespace ersd
