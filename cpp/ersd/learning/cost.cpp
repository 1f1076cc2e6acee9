// Measuring and following call times.
#include "ersd/learning/cost.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "ersd/stopwatch.h"

namespace ersd {
namespace {

constexpr double kTogether = 0.03, kAlone = 0.1;  // how far one call moves all widths, and its own

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
  model.rollback(0);
  double spent =
      call_ms(model, tree,
              std::span(nodes).first(1));  // the first call of a model is slower than any other
  std::array<double, kWidths.size()> least{};
  size_t n = 0;
  for (; n < kWidths.size() && kWidths[n] <= model.n_ctx() && (n < 3 || spent < budget_ms); ++n)
    for (int repetition = 0; repetition < 3 && (repetition == 0 || spent < budget_ms);
         ++repetition) {
      const double ms =
          call_ms(model, tree, std::span(nodes).first(static_cast<size_t>(kWidths[n])));
      least[n] = repetition == 0 ? ms : std::min(least[n], ms);
      spent += ms;
    }
  for (; n < kWidths.size(); ++n) least[n] = least[n - 1] * kWidths[n] / kWidths[n - 1];
  for (size_t i = 1; i < kWidths.size(); ++i) least[i] = std::max(least[i], least[i - 1]);
  ms_ = least;
}

void CostCurve::set(const Points& ms) {
  const auto is = [&](auto test) { return std::all_of(ms.begin(), ms.end(), test); };
  if (!is([](double x) { return x == 0; }) &&
      !is([](double x) { return x > 0 && std::isfinite(x); }))
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
  const double ratio = std::clamp(ms / (*this)(n), 0.5, 2.0);
  const auto nearest = static_cast<size_t>(
      std::min_element(kWidths.begin(), kWidths.end(),
                       [n](int32_t a, int32_t b) { return std::abs(a - n) < std::abs(b - n); }) -
      kWidths.begin());
  for (double& cost : ms_) cost *= std::pow(ratio, kTogether);
  ms_[nearest] *= std::pow(ratio, kAlone);
}

}  // namespace ersd
