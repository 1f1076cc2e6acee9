// What a call of a model costs by its width, the number of tokens in it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ersd/model/language_model.h"

namespace ersd {

// Milliseconds per call. Measured once, then drifting with the calls that are made.
class CostCurve {
 public:
  static constexpr std::array<int32_t, 11> kWidths{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48};

  // Runs the model on an empty cache, which is left empty, at growing widths: at most for about
  // budget_ms, but at the first three widths in any case; what is wider is extrapolated.
  void measure(LanguageModel& model, double budget_ms);

  bool measured() const { return ms_[0] > 0; }

  // Expected milliseconds of a call with n tokens, 1 or more; linear between and beyond the
  // measured widths. 0 before measure().
  double operator()(int32_t n) const;

  // A call that was made. One call moves the curve little, and a stalled one no more than one that
  // took twice as long as expected.
  void learn(int32_t n, double ms);

  // The points of the curve: f64[kWidths.size()], in milliseconds; all 0 where it has not been
  // measured.
  using Points = std::array<double, kWidths.size()>;
  const Points& points() const { return ms_; }

  // The curve through these points. Throws std::invalid_argument unless they are positive and
  // finite, or all 0.
  void set(const Points& ms);

 private:
  Points ms_{};
};

}  // namespace ersd
