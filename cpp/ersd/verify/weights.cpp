// Weights: reading, subtracting and drawing.
#include "ersd/verify/weights.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "ersd/race/noise.h"
#include "ersd/race/simd/lanes.h"

namespace ersd {
namespace {

constexpr size_t kBlock = Clock::kBlock;
constexpr size_t kChunk = 4096;  // weights that are summed in float; their sums are added in double

// Computes rest = max(rest * scale - other * other_scale, 0) and returns its sum.
// rest: f32[n]; other: f32[n_other], where n_other <= n.
ERSD_VECTORISED double subtract_scaled(std::span<float> rest, float scale,
                                       std::span<const float> other, float other_scale) {
  double total = 0;
  for (size_t start = 0; start < other.size(); start += kChunk) {
    const size_t end = std::min(other.size(), start + kChunk);
    float partial[kSums] = {};
    size_t j = start;
    for (; j + kSums <= end; j += kSums)
      for (int i = 0; i < kSums; ++i) {
        const float left = rest[j + i] * scale - other[j + i] * other_scale;
        rest[j + i] = left > 0 ? left : 0;
        partial[i] += rest[j + i];
      }
    for (; j < end; ++j) {
      const float left = rest[j] * scale - other[j] * other_scale;
      rest[j] = left > 0 ? left : 0;
      total += rest[j];
    }
    for (float p : partial) total += p;
  }
  for (size_t j = other.size(); j < rest.size(); ++j)
    total += rest[j] *= scale;  // tokens that the other row does not have
  return total;
}

}  // namespace

void Weights::read(std::span<const float> logits, const SamplingOptions& options) {
  row_.read(logits);
  values_.resize(logits.size());
  total_ = 0;
  if (!std::isfinite(row_.maximum())) return;
  total_ = probability_weights(row_, options, truncation_.cutoff(row_, options), values_);
}

void Weights::remove(Token token) {
  values_[static_cast<size_t>(token)] = 0;
  total_ = sum(values_);
}

void Weights::subtract(double share, const Weights& other) {
  total_ = subtract_scaled(values_, static_cast<float>(share / total_), other.values_,
                           static_cast<float>(1 / other.total_));
}

void Weights::accumulate() {
  const std::span<const float> weights = values_;
  cumulative_.assign(1, 0);
  for (size_t start = 0; start < weights.size(); start += kBlock)
    cumulative_.push_back(cumulative_.back() +
                          sum(weights.subspan(start, std::min(kBlock, weights.size() - start))));
}

Token Weights::draw(double u) const {
  const double wanted = u * cumulative_.back();
  const auto block =
      static_cast<size_t>(std::upper_bound(cumulative_.begin() + 1, cumulative_.end() - 1, wanted) -
                          cumulative_.begin() - 1);
  double sum = cumulative_[block];
  size_t last = values_.size();  // the last token with a weight that was seen
  const size_t end = std::min(values_.size(), (block + 1) * kBlock);
  for (size_t j = block * kBlock; j < end; ++j) {
    if (values_[j] <= 0) continue;
    last = j;
    if ((sum += values_[j]) > wanted) break;
  }
  // If rounding led past the last weight of the block, an earlier block has the token.
  if (last == values_.size())
    while (last > 0 && values_[--last] <= 0) {
    }
  return static_cast<Token>(last);
}

void check_target(const Weights& target) {
  if (target.total() <= 0)
    throw std::runtime_error("the model gave no token a probability: all " +
                             std::to_string(target.size()) + " logits are NaN or -infinity");
}

}  // namespace ersd
