// Best-bound-first search for the first m arrivals.
#include "ersd/race.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ersd {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

bool before(const Arrival& a, const Arrival& b) { return a.score > b.score || (a.score == b.score && a.token < b.token); }

}  // namespace

Arrival Race::winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock) {
  run(logits, options, clock, 1);
  return arrivals_.front();
}

std::span<const Arrival> Race::arrivals(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m) {
  run(logits, options, clock, m);
  std::sort(arrivals_.begin(), arrivals_.end(), before);
  return arrivals_;
}

void Race::run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m) {
  row_.read(logits);
  const float cutoff = truncation_.cutoff(row_, options);
  const auto maxima = row_.maxima();
  bounds_.assign(maxima.begin(), maxima.end());
  if (options.temperature > 0) {
    clock.noise_bounds(bounds_);
    const float temperature = options.temperature, rate = 1 / temperature;
    for (size_t b = 0; b < bounds_.size(); ++b) {
      const float logit = std::max(maxima[b], 0.9f * std::numeric_limits<float>::lowest() * std::min(temperature, 1.0f)) * rate;  // finite from below
      bounds_[b] += logit + 2e-7f * std::abs(logit);  // the margin covers the rounding of this line
    }
  }
  arrivals_.clear();
  const auto later = [this](int32_t a, int32_t b) { return bounds_[a] < bounds_[b]; };
  order_.clear();
  for (size_t b = 0; b < bounds_.size(); ++b)
    if (maxima[b] >= cutoff && maxima[b] > kNone) order_.push_back(static_cast<int32_t>(b));
  std::make_heap(order_.begin(), order_.end(), later);
  while (!order_.empty() && m > 0) {
    const int32_t block = order_.front();
    if (arrivals_.size() == m && bounds_[block] < arrivals_.front().score) break;
    std::pop_heap(order_.begin(), order_.end(), later);
    order_.pop_back();
    visit(block, options, clock, m, cutoff);
  }
}

void Race::visit(int32_t block, const SamplingOptions& options, const Clock& clock, size_t m, float cutoff) {
  const auto logits = row_.block(block);
  const Token first = block * Clock::kBlock;
  const auto kept = [&](float logit) { return logit >= cutoff && logit > kNone; };
  if (options.temperature == 0) {
    for (size_t i = 0; i < logits.size(); ++i)
      if (kept(logits[i])) offer({first + static_cast<Token>(i), logits[i]}, m);
    return;
  }
  const double temperature = options.temperature;
  const auto minimum = clock.minimum(block);
  const auto race = [&](size_t i) {
    const Token token = first + static_cast<Token>(i);
    offer({token, logits[i] / temperature - std::log(clock(token, minimum))}, m);
  };
  const size_t leader = static_cast<size_t>(minimum.token - first);
  if (leader < logits.size() && kept(logits[leader])) race(leader);

  // Every other clock is at least the minimum, and at least the minimum plus the uniform behind it: E >= M + u.
  const double least_noise = -std::log(minimum.value);
  uint32_t bits[Clock::kBlock];
  bool drawn = false;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i == leader || !kept(logits[i])) continue;
    if (arrivals_.size() == m) {
      const double scaled = logits[i] / temperature, last = arrivals_.front().score;
      if (scaled + least_noise < last) continue;
      if (!drawn) clock.uniform_bits(block, bits), drawn = true;
      // It takes a clock of exp(scaled - last) to arrive; among huge logits that difference is too coarse to tell.
      if (std::abs(scaled) < 1e6 && minimum.value + bits[i] * 0x1p-32 > std::exp(scaled - last) * (1 + 1e-9)) continue;
    }
    race(i);
  }
}

void Race::offer(Arrival arrival, size_t m) {
  if (arrivals_.size() == m) {
    if (!before(arrival, arrivals_.front())) return;
    std::pop_heap(arrivals_.begin(), arrivals_.end(), before);
    arrivals_.pop_back();
  }
  arrivals_.push_back(arrival);
  std::push_heap(arrivals_.begin(), arrivals_.end(), before);
}

}  // namespace ersd
