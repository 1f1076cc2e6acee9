// Measuring call times and learning from them.
#include "ersd/learning/cost.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "ersd/stopwatch.h"

namespace ersd {
namespace {

// How far one call moves all widths, and how far it moves its own width in addition: exponents of
// the ratio of its time to the expected one. A ratio beyond 2 counts as 2, one below 1/2 as 1/2.
constexpr double kAllWidths = 0.03, kOwnWidth = 0.1, kGreatestRatio = 2;

// How often each width is measured, and how many widths are measured whatever the budget.
constexpr int kRepetitions = 3;
constexpr size_t kLeastWidths = 3;

// The time of one call on an empty cache.
double call_ms(LanguageModel& model, const DraftTree& tree, std::span<const int32_t> nodes) {
  double ms = 0;
  {
    const Stopwatch watch(ms);
    model.decode({}, tree, nodes);
    model.logits(0);
  }
  model.rollback(0);
  return ms;
}

}  // namespace

void CostCurve::measure(LanguageModel& model, double budget_ms) {
  DraftTree tree(0);
  for (int32_t i = 1; i < kWidths.back(); ++i) tree.add(0, i % model.n_vocab());
  std::vector<int32_t> nodes(static_cast<size_t>(kWidths.back()));
  std::iota(nodes.begin(), nodes.end(), 0);
  const auto call = [&](int32_t width) {
    return call_ms(model, tree, std::span(nodes).first(static_cast<size_t>(width)));
  };
  model.rollback(0);
  double spent = call(1);  // not counted: the first call of a model is slower than any other
  Points least{};
  size_t n = 0;
  for (;
       n < kWidths.size() && kWidths[n] <= model.n_ctx() && (n < kLeastWidths || spent < budget_ms);
       ++n)
    for (int r = 0; r < kRepetitions && (r == 0 || spent < budget_ms); ++r) {
      const double ms = call(kWidths[n]);
      least[n] = r == 0 ? ms : std::min(least[n], ms);
      spent += ms;
    }
  for (; n < kWidths.size(); ++n) least[n] = least[n - 1] * kWidths[n] / kWidths[n - 1];
  for (size_t i = 1; i < kWidths.size(); ++i) least[i] = std::max(least[i], least[i - 1]);
  ms_ = least;
}

void CostCurve::set(const Points& ms) {
  const bool is_unknown = std::ranges::all_of(ms, [](double x) { return x == 0; });
  const bool is_curve = std::ranges::all_of(ms, [](double x) { return x > 0 && std::isfinite(x); });
  if (!is_unknown && !is_curve)
    throw std::invalid_argument(
        "costs must be positive milliseconds for each width, or all 0 where they are not known");
  ms_ = ms;
}

double CostCurve::operator()(int32_t n) const {
  if (n >= kWidths.back()) return ms_.back() * n / kWidths.back();
  const auto above =
      static_cast<size_t>(std::lower_bound(kWidths.begin(), kWidths.end(), n) - kWidths.begin());
  if (above == 0) return ms_[0];
  const double share =
      static_cast<double>(n - kWidths[above - 1]) / (kWidths[above] - kWidths[above - 1]);
  return ms_[above - 1] + share * (ms_[above] - ms_[above - 1]);
}

void CostCurve::learn(int32_t n, double ms) {
  if (!measured() || n > kWidths.back() || ms <= 0) return;
  const double ratio = std::clamp(ms / (*this)(n), 1 / kGreatestRatio, kGreatestRatio);
  const auto nearest = static_cast<size_t>(
      std::min_element(kWidths.begin(), kWidths.end(),
                       [n](int32_t a, int32_t b) { return std::abs(a - n) < std::abs(b - n); }) -
      kWidths.begin());
  for (double& cost : ms_) cost *= std::pow(ratio, kAllWidths);
  ms_[nearest] *= std::pow(ratio, kOwnWidth);
}

}  // namespace ersd
