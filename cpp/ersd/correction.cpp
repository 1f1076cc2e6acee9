// Sparse gradient steps.
#include "ersd/correction.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ersd/simd.h"

namespace ersd {
namespace {

constexpr float kLeast = 0.002f, kMost = 4.0f, kRate = 1.0f, kLeastTemperature = 0.5f;

// The places where a / sum_a and b / sum_b differ by more than kLeast, in order; returns how many. out: i32[n]
ERSD_VECTORISED int32_t differing(const float* a, float scale_a, const float* b, float scale_b, size_t n, int32_t* out) {
  int32_t count = 0;
  for (size_t i = 0; i < n; ++i) {
    const float difference = a[i] * scale_a - b[i] * scale_b;
    out[count] = static_cast<int32_t>(i);  // count <= i: never beyond the end
    count += difference > kLeast || difference < -kLeast;
  }
  return count;
}

}  // namespace

void Correction::observe(std::span<const float> target, std::span<const float> draft, float temperature) {
  const SamplingOptions options{std::max(temperature, kLeastTemperature), 0, 1, 0};
  const auto read = [&](std::span<const float> logits, std::vector<float>& weights) {
    row_.read(logits);
    weights.resize(logits.size());
    return std::isfinite(row_.maximum()) ? probability_weights(row_, options, -std::numeric_limits<float>::infinity(), weights) : 0.0;
  };
  const double target_sum = read(target, target_), draft_sum = read(draft, draft_);
  if (target_sum <= 0 || draft_sum <= 0) return;
  const size_t n = std::min(target.size(), draft.size());
  bias_.resize(std::max(bias_.size(), n));
  const auto scale = static_cast<float>(1 / target_sum), draft_scale = static_cast<float>(1 / draft_sum);
  places_.resize(n);
  const int32_t count = differing(target_.data(), scale, draft_.data(), draft_scale, n, places_.data());
  for (int32_t i = 0; i < count; ++i) {
    const auto token = static_cast<size_t>(places_[static_cast<size_t>(i)]);
    if (bias_[token] == 0) corrected_.push_back(static_cast<Token>(token));
    bias_[token] = std::clamp(bias_[token] + kRate * (target_[token] * scale - draft_[token] * draft_scale), -kMost, kMost);
    if (bias_[token] == 0) bias_[token] = std::numeric_limits<float>::min();  // stays listed once
  }
}

}  // namespace ersd
