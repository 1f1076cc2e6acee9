// One pass for the block maxima, and truncation without sorting the vocabulary.
#include "ersd/race/sampling.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>

#include "ersd/race/noise.h"
#include "ersd/race/simd/lanes.h"
#include "ersd/race/threshold.h"

namespace ersd {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr int32_t kBlock = Clock::kBlock;
constexpr size_t kChunk = 4096;  // terms that are summed in float

// The greatest of each lane of a block.
inline void block_maximum(const float* x, Lanes& out) {
  Lanes m[2], next;
  for (Lanes& lanes : m)
    for (int i = 0; i < kLanes; ++i) lanes[i] = kNone;
  for (int j = 0; j < kBlock; j += 2 * kLanes) {
    load(x + j, next), keep_greater(next, m[0]);
    load(x + j + kLanes, next), keep_greater(next, m[1]);
  }
  keep_greater(m[1], m[0]);
  out = m[0];
}

ERSD_VECTORISED void block_maxima(const float* x, size_t n, float* out) {
  Lanes m[kLanes];
  size_t block = 0;
  for (; (block + kLanes) * kBlock <= n; block += kLanes) {
    for (int k = 0; k < kLanes; ++k) block_maximum(x + (block + k) * kBlock, m[k]);
    greatest_of_each(m);
    store(m[0], out + block);
  }
  for (; (block + 1) * kBlock <= n; ++block)
    block_maximum(x + block * kBlock, m[0]), out[block] = greatest(m[0]);
  float last = kNone;
  for (size_t j = block * kBlock; j < n; ++j) last = x[j] > last ? x[j] : last;
  if (block * kBlock < n) out[block] = last;
}

// exp(x) within 2e-7 relatively, at least 2^-126: 2^i * 2^f with a polynomial for 2^f. x <= 0.
inline float exp_fast(float x) {
  float y = x * 1.44269504f;
  y = y > -126.0f ? y : -126.0f;
  const float shifted =
      y + 12582912.0f;  // rounds to the nearest integer, kept in the low mantissa bits
  const float f = y - (shifted - 12582912.0f);
  const float p =
      1.0f + f * (0.69314718f +
                  f * (0.24022651f + f * (0.05550411f + f * (0.00961813f + f * 0.00133336f))));
  return p * std::bit_cast<float>((std::bit_cast<int32_t>(shifted) << 23) + 0x3F800000);
}

// sum of exp(x - maximum), NaN and -infinity counting nothing
ERSD_VECTORISED double sum_exp(const float* x, size_t n, float maximum) {
  double total = 0;
  for (size_t start = 0; start < n; start += kChunk) {
    const size_t end = std::min(n, start + kChunk);
    float sum[kSums] = {};
    size_t j = start;
    for (; j + kSums <= end; j += kSums)
      for (int i = 0; i < kSums; ++i) sum[i] += exp_fast(x[j + i] - maximum);
    for (; j < end; ++j) sum[0] += exp_fast(x[j] - maximum);
    for (float s : sum) total += s;
  }
  return total;
}

// out = exp((x - maximum) / temperature) where x reaches the cutoff, else 0
ERSD_VECTORISED void exp_weights(const float* x, size_t n, float maximum, float temperature,
                                 float cutoff, float* out) {
  const float rate = 1 / temperature;
  for (size_t j = 0; j < n; ++j) {
    const float weight = exp_fast((x[j] - maximum) * rate);
    out[j] = x[j] >= cutoff && x[j] > kNone ? weight : 0.0f;
  }
}

ERSD_VECTORISED double lane_sum(const float* x, size_t n) {
  double total = 0;
  for (size_t start = 0; start < n; start += kChunk) {
    const size_t end = std::min(n, start + kChunk);
    float partial[kSums] = {};
    size_t j = start;
    for (; j + kSums <= end; j += kSums)
      for (int i = 0; i < kSums; ++i) partial[i] += x[j + i];
    for (; j < end; ++j) partial[0] += x[j];
    for (float p : partial) total += p;
  }
  return total;
}

ERSD_VECTORISED uint32_t count(std::span<const float> x, float least) {
  uint32_t n = 0;
  for (const float value : x) n += value >= least;
  return n;
}

ERSD_VECTORISED float greatest_of(const float* x, size_t n) {
  Lanes m, next;
  for (int i = 0; i < kLanes; ++i) m[i] = kNone;
  size_t j = 0;
  for (; j + kLanes <= n; j += kLanes) load(x + j, next), keep_greater(next, m);
  float greatest_one = greatest(m);
  for (; j < n; ++j) greatest_one = x[j] > greatest_one ? x[j] : greatest_one;
  return greatest_one;
}

}  // namespace

void Row::read(std::span<const float> logits) {
  logits_ = logits;
  maxima_.resize((logits.size() + kBlock - 1) / kBlock);
  block_maxima(logits.data(), logits.size(), maxima_.data());
  maximum_ = greatest_of(maxima_.data(), maxima_.size());
}

std::span<const float> Row::block(int32_t b) const {
  const size_t start = static_cast<size_t>(b) * kBlock;
  return logits_.subspan(start, std::min<size_t>(kBlock, logits_.size() - start));
}

void Truncation::gather(const Row& row, float least) {
  least = std::max(least, std::numeric_limits<float>::lowest());
  candidates_.clear();
  places_.resize(row.maxima().size() + kIndexSlack);
  found_.resize(kBlock + kIndexSlack);
  const size_t n_blocks = indices_at_least(row.maxima(), least, 0, places_.data());
  for (const int32_t b : std::span(places_).first(n_blocks)) {
    const auto block = row.block(b);
    const size_t n_found = indices_at_least(block, least, 0, found_.data());
    for (size_t i = 0; i < n_found; ++i)
      candidates_.push_back(block[static_cast<size_t>(found_[i])]);
  }
}

float Truncation::top_k_p(const Row& row, const SamplingOptions& options) {
  const size_t n = row.logits().size();
  const bool has_k = options.top_k > 0 && static_cast<size_t>(options.top_k) < n;
  if (!has_k && options.top_p >= 1) return kNone;
  // At least k tokens reach what k block maxima reach, and none of the k greatest lies below it.
  const float least = reached_by(row.maxima(), has_k ? static_cast<size_t>(options.top_k) : n);
  if (least == row.maximum()) return least;
  gather(row, least);
  auto begin = candidates_.begin(), end = candidates_.end();
  if (has_k && candidates_.size() > static_cast<size_t>(options.top_k)) {
    end = begin + options.top_k;
    std::nth_element(begin, end - 1, candidates_.end(), std::greater<>());
  }
  if (options.top_p >= 1) return *std::min_element(begin, end);
  const auto mass = [&](auto from, auto to) {
    return sum_exp(candidates_.data() + (from - candidates_.begin()),
                   static_cast<size_t>(to - from), row.maximum());
  };
  // Quickselect by mass: narrow [begin, end) to the candidate at which the sum of all greater ones
  // passes top_p. Equal ones count together.
  double missing = options.top_p * mass(begin, end);
  while (end - begin > 1) {
    const float pivot = *(begin + (end - begin) / 2);
    const auto middle = std::partition(begin, end, [pivot](float x) { return x > pivot; });
    const double above = mass(begin, middle);
    if (above >= missing) {
      end = middle;
      continue;
    }
    const auto below = std::partition(middle, end, [pivot](float x) { return x >= pivot; });
    const double equal = mass(middle, below);
    if (above + equal >= missing || below == end) return pivot;
    missing -= above + equal;
    begin = below;
  }
  return *begin;
}

float reached_by(std::span<const float> x, size_t k) {
  if (k > x.size()) return kNone;
  float high = greatest_of(x.data(), x.size());
  if (count(x, high) >= k) return high;
  // In widening steps down from the greatest, then by halves, as far as that pays.
  float low = high = std::min(high, std::numeric_limits<float>::max());
  uint32_t n = 0;
  for (float step = 1; n < k && low > kNone; step *= 2) {
    high = low;
    low = high - step;
    n = count(x, low);
  }
  for (int i = 0; i < 12 && n > k + k / 4 && low > kNone; ++i) {
    const float middle = low + (high - low) / 2;
    const uint32_t reached = count(x, middle);
    (reached >= k ? low : high) = middle;
    if (reached >= k) n = reached;
  }
  return low;
}

double sum(std::span<const float> weights) { return lane_sum(weights.data(), weights.size()); }

double probability_weights(const Row& row, const SamplingOptions& options, float cutoff,
                           std::span<float> weights) {
  exp_weights(row.logits().data(), row.logits().size(), row.maximum(), options.temperature, cutoff,
              weights.data());
  return sum(weights);
}

double exp_sum(std::span<const float> logits, float maximum) {
  return sum_exp(logits.data(), logits.size(), maximum);
}

float Truncation::cutoff(const Row& row, const SamplingOptions& options) {
  if (options.temperature == 0 || std::isinf(row.maximum())) return kNone;
  const float least_p = options.min_p > 0 ? row.maximum() + std::log(options.min_p) : kNone;
  return std::max(top_k_p(row, options), least_p);
}

}  // namespace ersd
