// Vectorised passes over a row, and truncation without sorting the vocabulary.
#include "ersd/race/truncation.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "ersd/race/indices_at_least.h"
#include "ersd/race/noise.h"
#include "ersd/race/simd/lanes.h"

namespace ersd {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int32_t kBlock = Clock::kBlock;
constexpr size_t kChunk = 4096;   // terms that are summed in float; their sums are added in double
constexpr int kMaxHalvings = 12;  // a few candidates too many cost less than more passes

// The greatest value of each lane of a block.
inline void lane_maxima(const float* x, Lanes& out) {
  Lanes m[2], next;
  for (Lanes& lanes : m)
    for (int i = 0; i < kLanes; ++i) lanes[i] = kMinusInfinity;
  for (int j = 0; j < kBlock; j += 2 * kLanes) {
    load(x + j, next), keep_greater(next, m[0]);
    load(x + j + kLanes, next), keep_greater(next, m[1]);
  }
  keep_greater(m[1], m[0]);
  out = m[0];
}

// out[b] = the greatest value of block b. NaN counts as -infinity. out: f32[ceil(n / 128)].
ERSD_VECTORISED void block_maxima(const float* x, size_t n, float* out) {
  Lanes m[kLanes];
  size_t block = 0;
  for (; (block + kLanes) * kBlock <= n; block += kLanes) {
    for (int k = 0; k < kLanes; ++k) lane_maxima(x + (block + k) * kBlock, m[k]);
    greatest_of_each(m);
    store(m[0], out + block);
  }
  for (; (block + 1) * kBlock <= n; ++block)
    lane_maxima(x + block * kBlock, m[0]), out[block] = greatest(m[0]);
  float last = kMinusInfinity;
  for (size_t j = block * kBlock; j < n; ++j) last = x[j] > last ? x[j] : last;
  if (block * kBlock < n) out[block] = last;
}

// exp(x) for x <= 0 with a relative error of at most 2e-7, but never less than 2^-126. It is
// 2^i * 2^f, with a polynomial for 2^f.
inline float exp_fast(float x) {
  float y = x * 1.44269504f;
  y = y > -126.0f ? y : -126.0f;
  // Adding 1.5 * 2^23 rounds y to the nearest integer, which is then in the low mantissa bits.
  const float shifted = y + 12582912.0f;
  const float f = y - (shifted - 12582912.0f);
  const float p =
      1.0f + f * (0.69314718f +
                  f * (0.24022651f + f * (0.05550411f + f * (0.00961813f + f * 0.00133336f))));
  return p * std::bit_cast<float>((std::bit_cast<int32_t>(shifted) << 23) + 0x3F800000);
}

// The sum of exp(scale * (x - maximum)). NaN and -infinity add nothing.
ERSD_VECTORISED double sum_exp(const float* x, size_t n, float maximum, float scale) {
  double total = 0;
  for (size_t start = 0; start < n; start += kChunk) {
    const size_t end = std::min(n, start + kChunk);
    float sum[kSums] = {};
    size_t j = start;
    for (; j + kSums <= end; j += kSums)
      for (int i = 0; i < kSums; ++i) sum[i] += exp_fast((x[j + i] - maximum) * scale);
    for (; j < end; ++j) sum[0] += exp_fast((x[j] - maximum) * scale);
    for (float s : sum) total += s;
  }
  return total;
}

// out[j] = exp((x[j] - maximum) / temperature) if x[j] reaches the cutoff, and 0 otherwise.
ERSD_VECTORISED void exp_weights(const float* x, size_t n, float maximum, float temperature,
                                 float cutoff, float* out) {
  const float rate = 1 / temperature;
  for (size_t j = 0; j < n; ++j) {
    const float weight = exp_fast((x[j] - maximum) * rate);
    out[j] = x[j] >= cutoff && x[j] > kMinusInfinity ? weight : 0.0f;
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

ERSD_VECTORISED uint32_t count_at_least(std::span<const float> x, float least) {
  uint32_t n = 0;
  for (const float value : x) n += value >= least;
  return n;
}

ERSD_VECTORISED float greatest_of(const float* x, size_t n) {
  Lanes m, next;
  for (int i = 0; i < kLanes; ++i) m[i] = kMinusInfinity;
  size_t j = 0;
  for (; j + kLanes <= n; j += kLanes) load(x + j, next), keep_greater(next, m);
  float maximum = greatest(m);
  for (; j < n; ++j) maximum = x[j] > maximum ? x[j] : maximum;
  return maximum;
}

// The least logit that top-p keeps, by quickselect on probability: the interval [begin, end)
// narrows to the candidate at which the sum of all greater ones passes top_p. Equal logits are kept
// or removed together. Reorders the candidates.
float top_p_cutoff(std::span<float> candidates, float top_p, float maximum) {
  const auto mass = [&](auto from, auto to) {
    return sum_exp(std::to_address(from), static_cast<size_t>(to - from), maximum, 1);
  };
  auto begin = candidates.begin(), end = candidates.end();
  double missing = top_p * mass(begin, end);
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

// Collects the logits that are at least this.
void Truncation::gather_candidates(const Row& row, float least) {
  least = std::max(least, std::numeric_limits<float>::lowest());
  candidates_.clear();
  blocks_.resize(row.maxima().size() + kIndexSlack);
  indices_.resize(kBlock + kIndexSlack);
  const size_t n_blocks = indices_at_least(row.maxima(), least, 0, blocks_.data());
  for (const int32_t b : std::span(blocks_).first(n_blocks)) {
    const auto block = row.block(b);
    const size_t n = indices_at_least(block, least, 0, indices_.data());
    for (const int32_t i : std::span(indices_).first(n))
      candidates_.push_back(block[static_cast<size_t>(i)]);
  }
}

float Truncation::top_k_top_p_cutoff(const Row& row, const SamplingOptions& options) {
  const size_t n = row.logits().size();
  const bool has_k = options.top_k > 0 && static_cast<size_t>(options.top_k) < n;
  if (!has_k && options.top_p >= 1) return kMinusInfinity;
  // At least k tokens reach what k block maxima reach, and none of the k greatest lies below it.
  const float least =
      kth_greatest_or_less(row.maxima(), has_k ? static_cast<size_t>(options.top_k) : n);
  if (least == row.maximum()) return least;
  gather_candidates(row, least);
  auto kept = std::span(candidates_);
  if (has_k && kept.size() > static_cast<size_t>(options.top_k)) {
    std::nth_element(kept.begin(), kept.begin() + options.top_k - 1, kept.end(), std::greater<>());
    kept = kept.first(static_cast<size_t>(options.top_k));
  }
  if (options.top_p >= 1) return *std::min_element(kept.begin(), kept.end());
  return top_p_cutoff(kept, options.top_p, row.maximum());
}

float kth_greatest_or_less(std::span<const float> x, size_t k) {
  if (k > x.size()) return kMinusInfinity;
  float high = greatest_of(x.data(), x.size());
  if (count_at_least(x, high) >= k) return high;
  // First go down from the greatest value in widening steps, until k values are reached.
  float low = high = std::min(high, std::numeric_limits<float>::max());
  uint32_t n = 0;
  for (float step = 1; n < k && low > kMinusInfinity; step *= 2) {
    high = low;
    low = high - step;
    n = count_at_least(x, low);
  }
  // Then halve the interval until at most a quarter more than k are reached.
  for (int i = 0; i < kMaxHalvings && n > k + k / 4 && low > kMinusInfinity; ++i) {
    const float middle = low + (high - low) / 2;
    const uint32_t reached = count_at_least(x, middle);
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

double exp_sum(std::span<const float> logits, float maximum, float scale) {
  return sum_exp(logits.data(), logits.size(), maximum, scale);
}

float Truncation::cutoff(const Row& row, const SamplingOptions& options) {
  if (options.temperature == 0 || std::isinf(row.maximum())) return kMinusInfinity;
  const float least_p =
      options.min_p > 0 ? row.maximum() + std::log(options.min_p) : kMinusInfinity;
  return std::max(top_k_top_p_cutoff(row, options), least_p);
}

}  // namespace ersd
