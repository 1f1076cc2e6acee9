// What a call of a model costs by its width, that is the number of tokens in it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ersd/model/language_model.h"

namespace ersd {

// Milliseconds per call. They are measured once and then follow the calls that are made.
class CostCurve {
 public:
  static constexpr std::array<int32_t, 11> kWidths{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48};

  // Measures calls of growing width on an empty cache, and leaves the cache empty. It stops after
  // about budget_ms, but measures the first three widths in any case. Wider calls are extrapolated.
  void measure(LanguageModel& model, double budget_ms);

  bool measured() const { return ms_[0] > 0; }

  // Expected milliseconds of a call with n tokens, 1 or more: linear between the measured widths,
  // proportional to n above the last one; 0 before measure().
  double operator()(int32_t n) const;

  // Learns from a call with n tokens. One call moves the curve little. A stalled call counts as one
  // that took twice the expected time.
  void learn(int32_t n, double ms);

  // The milliseconds at kWidths, f64[11]; all 0 before measure().
  using Points = std::array<double, kWidths.size()>;
  const Points& points() const { return ms_; }

  // Replaces the curve. Throws std::invalid_argument unless all points are positive and finite, or
  // all are 0.
  void set(const Points& ms);

 private:
  Points ms_{};
};

}  // namespace ersd
