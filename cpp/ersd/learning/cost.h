// What a call of a model costs by its width, that is the number of tokens in it, and by how many
// tokens the cache holds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ersd/model/language_model.h"

namespace ersd {

// Milliseconds per call. They are measured once and then follow the calls that are made.
class CostCurve {
 public:
  // Every width to 16 is measured, because kernels work on 2, 4 or 8 rows at a time.
  static constexpr std::array<int32_t, 19> kWidths{1,  2,  3,  4,  5,  6,  7,  8,  9, 10,
                                                   11, 12, 13, 14, 15, 16, 24, 32, 48};

  // The lengths of the cache at which calls are measured.
  static constexpr std::array<int32_t, 2> kLengths{0, 1024};

  // Measures calls on an empty cache, then on a long one, and leaves the cache empty. It stops
  // after about budget_ms for each length. Widths that were not measured lie on a line between
  // those that were; wider calls are extrapolated, and so is a long cache that the model cannot
  // fill.
  void measure(LanguageModel& model, double budget_ms);

  bool measured() const { return ms_[0][0] > 0; }

  // Sets how many tokens the cache holds in the calls to come.
  void set_n_cached(int32_t n_cached) { n_cached_ = n_cached; }

  // Expected milliseconds of a call with n tokens, 1 or more: linear between the measured widths
  // and lengths, proportional to n above the last width; 0 before measure().
  double operator()(int32_t n) const;

  // What one more token costs on average in calls of up to 16 tokens.
  double ms_per_node() const;

  // Learns from a call with n tokens. One call moves the curve little. A stalled call counts as one
  // that took twice the expected time.
  void learn(int32_t n, double ms);

  // Whether calls took so much more or less time than expected, again and again, that the curve
  // should be measured anew. It stays so until then: learning mends only the widths in use.
  bool distrusted() const { return distrusted_; }

  // The milliseconds by length and width, f64[2, 19]; all 0 before measure().
  using Points = std::array<std::array<double, kWidths.size()>, kLengths.size()>;
  const Points& points() const { return ms_; }

  // Replaces the curve. Throws std::invalid_argument unless all points are positive and finite, or
  // all are 0.
  void set(const Points& ms);

 private:
  static constexpr int32_t kMaxDisagreements = 8;

  Points ms_{};
  int32_t n_cached_ = 0;
  int32_t disagreements_ = 0;  // calls that disagreed, less those that did not
  bool distrusted_ = false;
};

}  // namespace ersd
