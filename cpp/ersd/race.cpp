// A race visits only the blocks that can still arrive, and computes clocks only for tokens that can.
#include "ersd/race.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>

#include "ersd/simd.h"

namespace ersd {
namespace {

constexpr int32_t kFew = 2;  // tokens that are raced sooner than bounded
constexpr float kNone = -std::numeric_limits<float>::infinity();

// bounds[i] += x[i] / temperature, rounded up: the margin covers float arithmetic. Masked logits may be as low as floats go.
ERSD_VECTORISED void add_scaled(std::span<const float> x, float temperature, std::span<float> bounds) {
  const float rate = 1 / temperature, least = 0.9f * std::numeric_limits<float>::lowest() * std::min(temperature, 1.0f);
  for (size_t i = 0; i < x.size(); ++i) {
    const float scaled = (x[i] > least ? x[i] : least) * rate;
    bounds[i] += scaled + 3e-7f * std::abs(scaled);
  }
}

// The places of logits that are at least this, in order; returns how many. i32[logits.size()]
ERSD_VECTORISED int32_t places(std::span<const float> logits, float least, int32_t* out) {
  int32_t n = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    out[n] = static_cast<int32_t>(i);
    n += logits[i] >= least;
  }
  return n;
}

double race_score(float logit, float temperature, double clock) { return logit / static_cast<double>(temperature) - std::log(clock); }

bool before(const Arrival& a, const Arrival& b) { return a.score > b.score || (a.score == b.score && a.token < b.token); }

}  // namespace

Arrival Race::winner(std::span<const float> logits, const SamplingOptions& options, const Clock& clock) {
  run(logits, options, clock, 1);
  if (arrivals_.empty())
    throw std::runtime_error("the model gave no token a probability: all " + std::to_string(logits.size()) + " logits are NaN or -infinity");
  return arrivals_.front();
}

std::span<const Arrival> Race::arrivals(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m) {
  run(logits, options, clock, m);
  std::sort(arrivals_.begin(), arrivals_.end(), before);
  return arrivals_;
}

size_t Race::rank(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, Token token, size_t m) {
  if (token < 0 || static_cast<size_t>(token) >= logits.size() || !(logits[token] > kNone)) return m;
  const double score = options.temperature > 0 ? race_score(logits[token], options.temperature, clock(token)) : logits[token];
  run(logits, options, clock, m, score);
  size_t n_before = 0;
  bool arrived = false;
  for (const Arrival& a : arrivals_) n_before += before(a, {token, score}), arrived |= a.token == token;
  return arrived ? n_before : m;
}

void Race::run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m, double floor) {
  row_.read(logits);
  const float cutoff = truncation_.cutoff(row_, options);
  const auto maxima = row_.maxima();
  arrivals_.clear();
  floor_ = floor;
  block_bounds_.assign(maxima.begin(), maxima.end());
  if (options.temperature > 0) {
    clock.bound(maxima.size(), bounds_);
    find_floor(options.temperature, m, cutoff);
    block_bounds_ = bounds_.greatest;
    add_scaled(maxima, options.temperature, block_bounds_);
  }
  for (size_t b = 0; b < maxima.size() && m > 0; ++b)
    if (block_bounds_[b] >= last(m) && maxima[b] >= cutoff && maxima[b] > kNone) visit(static_cast<int32_t>(b), options, clock, m, cutoff);
}

// The leaders of m blocks are m tokens: the least of their m greatest scores is one that every arrival reaches.
void Race::find_floor(float temperature, size_t m, float cutoff) {
  scores_.clear();
  for (size_t b = 0; b < bounds_.leader.size(); ++b) {
    const auto leader = static_cast<size_t>(bounds_.leader[b]);
    if (leader >= row_.logits().size()) continue;
    const float logit = row_.logits()[leader], scaled = std::min(logit / temperature, std::numeric_limits<float>::max());
    if (logit >= cutoff && logit > kNone) scores_.push_back(bounds_.least[b] + (scaled - 3e-7f * std::abs(scaled)));
  }
  if (m == 0 || scores_.size() < m) return;
  const auto nth = scores_.begin() + static_cast<ptrdiff_t>(m) - 1;
  std::nth_element(scores_.begin(), nth, scores_.end(), std::greater<>());
  if (*nth > std::numeric_limits<float>::lowest()) floor_ = std::max<double>(floor_, *nth);
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
  // The token with the block's least clock, and those whose logit makes up for a clock no less than that: most blocks have neither.
  const auto leader = static_cast<size_t>(bounds_.leader[block] - first);
  const float noise = bounds_.greatest[block];
  const double lowest = (last(m) - noise) * options.temperature;
  int32_t place[Clock::kBlock];
  const int32_t n = places(logits, static_cast<float>(lowest - 1e-6 * std::abs(lowest)), place);
  if (n == 0) return;
  const auto minimum = clock.minimum(block);
  const auto race = [&](size_t i) {
    const Token token = first + static_cast<Token>(i);
    offer({token, race_score(logits[i], options.temperature, clock(token, minimum))}, m);
  };
  if (n > kFew) {
    clock.noise_bounds(block, minimum, token_bounds_);
    if (leader < logits.size()) token_bounds_[leader] = noise;
    add_scaled(logits, options.temperature, token_bounds_);
  }
  for (int32_t j = 0; j < n; ++j) {
    const auto i = static_cast<size_t>(place[j]);
    if ((n <= kFew || token_bounds_[i] >= last(m)) && kept(logits[i])) race(i);
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
