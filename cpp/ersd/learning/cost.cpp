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

using Curve = std::array<double, CostCurve::kWidths.size()>;

// How far one call moves all widths, and how far it moves its own width in addition: exponents of
// the ratio of its time to the expected one. A ratio beyond 2 counts as 2, one below 1/2 as 1/2.
constexpr double kAllWidths = 0.03, kOwnWidth = 0.1, kGreatestRatio = 2;

// A call disagrees with the curve if its time is beyond this ratio to the expected one.
constexpr double kDisagreement = 1.7;

// The order in which widths are measured: those that tell most come first, as time may run out.
constexpr std::array<int32_t, 19> kOrder{1,  2, 4,  8,  16, 3,  5,  12, 6, 9,
                                         13, 7, 10, 11, 14, 15, 24, 32, 48};
constexpr std::array<int32_t, 3> kLongOrder{1, 4, 16};  // on a long cache
constexpr size_t kLeastWidths = 3;                      // measured whatever the budget
constexpr int kRepetitions = 2;
constexpr double kMostMs = 1e9;  // of a call, in a profile

// The tokens of measured calls are spread over the vocabulary, as those of texts are: each of them
// then chooses its own experts, if the model is a mixture of experts, and a wider call needs more
// of them.
constexpr int64_t kSpread = 7919;

size_t index_of(int32_t width) {
  return static_cast<size_t>(std::ranges::lower_bound(CostCurve::kWidths, width) -
                             CostCurve::kWidths.begin());
}

// Times calls of one model on a cache that stays as it is.
class CallTimer {
 public:
  explicit CallTimer(LanguageModel& model)
      : model_(model), cached_(model.cached().begin(), model.cached().end()) {
    tree_.reset(token(0));
    for (int32_t i = 1; i < CostCurve::kWidths.back(); ++i) tree_.add(i - 1, token(i));
    nodes_.resize(static_cast<size_t>(tree_.size()));
    std::iota(nodes_.begin(), nodes_.end(), 0);
    time(1);  // the first call of a model is slower than any other
  }

  // Returns the least of a few times of a call with this width.
  double time(int32_t width) {
    double least = 0;
    for (int r = 0; r < kRepetitions; ++r) {
      double ms = 0;
      {
        const Stopwatch watch(ms);
        model_.decode(cached_, tree_, std::span(nodes_).first(static_cast<size_t>(width)));
        model_.logits(0);
      }
      model_.rollback(static_cast<int32_t>(cached_.size()));
      spent_ms_ += ms;
      least = r == 0 ? ms : std::min(least, ms);
    }
    return least;
  }

  double spent_ms() const { return spent_ms_; }
  bool has_room(int32_t width) const {
    return static_cast<int32_t>(cached_.size()) + width <= model_.n_ctx();
  }

 private:
  Token token(int64_t i) const { return static_cast<Token>((i + 1) * kSpread % model_.n_vocab()); }

  LanguageModel& model_;
  std::vector<Token> cached_;
  DraftTree tree_;
  std::vector<int32_t> nodes_;
  double spent_ms_ = 0;
};

// Fills widths that were not measured (0): on a line between two that were, in proportion beyond
// the last one. A wider call never costs less.
void fill_gaps(Curve& ms) {
  const auto& widths = CostCurve::kWidths;
  size_t last = 0;
  for (size_t i = 1; i < ms.size(); ++i) {
    if (ms[i] == 0) continue;
    for (size_t j = last + 1; j < i; ++j)
      ms[j] =
          ms[last] + (ms[i] - ms[last]) * (widths[j] - widths[last]) / (widths[i] - widths[last]);
    last = i;
  }
  for (size_t j = last + 1; j < ms.size(); ++j) ms[j] = ms[last] * widths[j] / widths[last];
  for (size_t i = 1; i < ms.size(); ++i) ms[i] = std::max(ms[i], ms[i - 1]);
}

Curve measure_widths(LanguageModel& model, std::span<const int32_t> order, double budget_ms) {
  CallTimer timer(model);
  Curve ms{};
  size_t n = 0;
  for (const int32_t width : order) {
    if (!timer.has_room(width) || (n++ >= kLeastWidths && timer.spent_ms() > budget_ms)) continue;
    ms[index_of(width)] = timer.time(width);
  }
  fill_gaps(ms);
  return ms;
}

// The cost of a call on one curve.
double at(const Curve& ms, int32_t n) {
  const auto& widths = CostCurve::kWidths;
  if (n >= widths.back()) return ms.back() * n / widths.back();
  const size_t above = index_of(n);
  if (above == 0 || widths[above] == n) return ms[above];
  const double share =
      static_cast<double>(n - widths[above - 1]) / (widths[above] - widths[above - 1]);
  return ms[above - 1] + share * (ms[above] - ms[above - 1]);
}

}  // namespace

void CostCurve::measure(LanguageModel& model, double budget_ms) {
  model.rollback(0);
  ms_[0] = ms_[1] = measure_widths(model, kOrder, budget_ms);
  // In a short context, the cached tokens must leave room for the widest call.
  const int32_t room = model.n_ctx() - *std::ranges::max_element(kLongOrder);
  const int32_t n_cached = room > 0 ? model.occupy(std::min(kLengths[1], room)) : 0;
  if (n_cached > 0 && n_cached <= room) {
    const Curve longer = measure_widths(model, kLongOrder, budget_ms);
    for (size_t i = 0; i < longer.size(); ++i)
      ms_[1][i] += std::max(longer[i] - ms_[0][i], 0.0) * kLengths[1] / n_cached;
  }
  model.rollback(0);
  disagreements_ = 0;
  distrusted_ = false;
}

void CostCurve::set(const Points& ms) {
  bool is_unknown = true, is_curve = true;
  for (const Curve& curve : ms)
    for (const double x : curve) {
      is_unknown = is_unknown && x == 0;
      is_curve = is_curve && x > 0 && x < kMostMs;
    }
  if (!is_unknown && !is_curve)
    throw std::invalid_argument(
        "costs must be positive milliseconds below 1e9 for each width, or all 0 where they are not "
        "known");
  ms_ = ms;
  disagreements_ = 0;
  distrusted_ = false;
}

double CostCurve::operator()(int32_t n) const {
  const double shorter = at(ms_[0], n), longer = at(ms_[1], n);
  const double expected = shorter + (longer - shorter) * n_cached_ / kLengths[1];
  // Where calls on a long cache cost less, a yet longer one must not cost less than nothing.
  return std::max(expected, std::min(shorter, longer));
}

double CostCurve::ms_per_node() const {
  constexpr int32_t kTypicalWidth = 16;
  return ((*this)(kTypicalWidth) - (*this)(1)) / (kTypicalWidth - 1);
}

void CostCurve::learn(int32_t n, double ms) {
  if (!measured() || ms <= 0) return;
  const double seen = ms / (*this)(n);
  const bool disagrees = seen > kDisagreement || seen < 1 / kDisagreement;
  disagreements_ = std::max(0, disagreements_ + (disagrees ? 1 : -1));
  distrusted_ = distrusted_ || disagreements_ >= kMaxDisagreements;
  if (n > kWidths.back()) return;
  const double ratio = std::clamp(seen, 1 / kGreatestRatio, kGreatestRatio);
  const auto nearest = static_cast<size_t>(
      std::min_element(kWidths.begin(), kWidths.end(),
                       [n](int32_t a, int32_t b) { return std::abs(a - n) < std::abs(b - n); }) -
      kWidths.begin());
  for (Curve& curve : ms_) {
    for (double& cost : curve) cost *= std::pow(ratio, kAllWidths);
    curve[nearest] *= std::pow(ratio, kOwnWidth);
  }
}

}  // namespace ersd
