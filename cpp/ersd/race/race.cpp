// A race visits only the blocks that may hold one of the first arrivals. It computes clocks only
// for the tokens that may be one.
#include "ersd/race/race.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "ersd/race/indices_at_least.h"
#include "ersd/race/logarithm.h"
#include "ersd/race/simd/lanes.h"

namespace ersd {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLowNoise = -1.1f;     // 95 % of all noise -log(clock) is greater
constexpr float kHighNoise = 1.0f;     // a third of all noise is greater
constexpr size_t kManyArrivals = 16;   // so many that lucky blocks make up for unlucky ones
constexpr size_t kFewKept = 10;        // up to this many tokens are raced without bounds
constexpr size_t kTooFewToBound = 16;  // up to this many tokens cost less to race than to bound
constexpr size_t kChunk = 512;         // tokens that are drawn together, at least one block
constexpr size_t kLeastSpare = 16;     // least number of arrivals collected beyond the first m
constexpr float kSecondGuess = 4;      // how much lower the second guess of a score is

// bounds[i] = x[i] / temperature + noise_bounds[i], rounded up by a margin that covers the float
// arithmetic, or -infinity if x[i] is below the cutoff. Logits that mask a token may be as low as
// floats go, so x is clamped first.
ERSD_VECTORISED void bound_scores(std::span<const float> x, float temperature, float cutoff,
                                  const float* noise_bounds, float* bounds) {
  const float rate = 1 / temperature, least = 0.9f * kLowest * std::min(temperature, 1.0f);
  for (size_t i = 0; i < x.size(); ++i) {
    const float scaled = (x[i] > least ? x[i] : least) * rate,
                bound = scaled + 3e-7f * std::abs(scaled) + noise_bounds[i];
    bounds[i] = x[i] >= cutoff ? bound : kMinusInfinity;
  }
}

// Replaces the clocks of tokens by their scores, logit / temperature - log(clock).
ERSD_VECTORISED void clocks_to_scores(const float* logits, const Token* tokens, size_t n,
                                      double temperature, double* clocks) {
  for (size_t i = 0; i < n; ++i)
    clocks[i] = static_cast<double>(logits[tokens[i]]) / temperature - logarithm(clocks[i]);
}

double race_score(float logit, float temperature, double clock) {
  return logit / static_cast<double>(temperature) - logarithm(clock);
}

bool arrives_before(const Arrival& a, const Arrival& b) {
  return a.score > b.score || (a.score == b.score && a.token < b.token);
}

// The number of arrivals that are collected beyond the first m before the latest ones are dropped.
size_t n_spare(size_t m) { return std::max(m, kLeastSpare); }

// A float that is less than x by a margin that covers the rounding of bounds.
float safely_below(double x) {
  x = std::min<double>(x, -kLowest);
  x -= 1e-6 * std::abs(x);
  return x < kLowest ? kMinusInfinity : static_cast<float>(x);
}

}  // namespace

Arrival Race::winner(std::span<const float> logits, const SamplingOptions& options,
                     const Clock& clock) {
  run(logits, options, clock, 1);
  if (arrivals_.empty())
    throw std::runtime_error("the model gave no token a probability: all " +
                             std::to_string(logits.size()) + " logits are NaN or -infinity");
  return arrivals_.front();
}

std::span<const Arrival> Race::arrivals(std::span<const float> logits,
                                        const SamplingOptions& options, const Clock& clock,
                                        size_t m) {
  run(logits, options, clock, m);
  std::sort(arrivals_.begin(), arrivals_.end(), arrives_before);
  return arrivals_;
}

size_t Race::rank(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
                  Token token, size_t m) {
  if (token < 0 || static_cast<size_t>(token) >= logits.size() || !(logits[token] > kMinusInfinity))
    return m;
  const double score = options.temperature > 0
                           ? race_score(logits[token], options.temperature, clock(token))
                           : logits[token];
  run(logits, options, clock, m, safely_below(score));
  size_t n_before = 0;
  bool arrived = false;
  for (const Arrival& a : arrivals_)
    n_before += arrives_before(a, {token, score}), arrived |= a.token == token;
  return arrived ? n_before : m;
}

// Leaves the first m arrivals in arrivals_, in any order. Arrivals below least_score may be
// missing.
void Race::run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
               size_t m, float least_score) {
  row_.read(logits);
  arrivals_.clear();
  if (m == 0 || !(row_.maximum() > kMinusInfinity)) return;
  const float cutoff = std::max(truncation_.cutoff(row_, options), kLowest);
  if (options.temperature > 0 && cutoff > kLowest && race_if_few(options, clock, cutoff))
    return keep_first(m);
  bound_blocks(options.temperature, clock, cutoff);
  arrivals_.reserve(m + n_spare(m) + kChunk);
  const float guess = std::max(least_score, guess_score(options.temperature, m));
  for (const float score : {guess, std::max(least_score, guess - kSecondGuess), least_score}) {
    arrivals_.clear();
    race_blocks(options.temperature, clock, m, cutoff, score);
    if (arrivals_.size() >= m || score == least_score) break;
  }
  keep_first(m);
}

// Races the kept tokens one by one if they are few, and returns whether they are.
bool Race::race_if_few(const SamplingOptions& options, const Clock& clock, float cutoff) {
  open_blocks_.resize(row_.maxima().size() + kIndexSlack);
  const size_t n_open = indices_at_least(row_.maxima(), cutoff, 0, open_blocks_.data());
  if (n_open > kFewKept) return false;
  tokens_.resize(n_open * Clock::kBlock + kIndexSlack);
  size_t n = 0;
  for (const int32_t b : std::span(open_blocks_).first(n_open))
    n += indices_at_least(row_.block(b), cutoff, b * Clock::kBlock, tokens_.data() + n);
  if (n > kFewKept) return false;
  for (const Token token : std::span(tokens_).first(n))
    arrivals_.push_back(
        {token, race_score(row_.logits()[token], options.temperature, clock(token))});
  return true;
}

// Sets block_bounds_, which is -infinity for blocks without a kept token. At temperature 0 there is
// no noise.
void Race::bound_blocks(float temperature, const Clock& clock, float cutoff) {
  const auto maxima = row_.maxima();
  block_bounds_.resize(maxima.size());
  if (temperature > 0) {
    block_draws_ = &draw_blocks_once(clock, maxima.size());
  } else {
    no_noise_.fit(maxima.size());
    block_draws_ = &no_noise_;
    temperature = 1;
  }
  bound_scores(maxima, temperature, cutoff, block_draws_->noise_bounds.data(),
               block_bounds_.data());
}

// Returns the draws of the first n blocks, which are drawn only if they are not in the cache.
const Clock::Draws& Race::draw_blocks_once(const Clock& clock, size_t n_blocks) {
  CachedDraws& cached = cached_draws_[clock.position() % kCachedPositions];
  if (!(cached.clock == clock) || cached.n_blocks < n_blocks) {
    clock.draw_blocks(n_blocks, cached.blocks);
    cached.clock = clock, cached.n_blocks = n_blocks;
  }
  return cached.blocks;
}

// Returns a score that m tokens probably reach. Each block whose bound is high enough suggests two
// scores: that of its greatest logit with an assumed noise, and that of its token with the least
// clock.
float Race::guess_score(float temperature, size_t m) {
  const float mth_maximum = kth_greatest_or_less(row_.maxima(), m);
  if (temperature == 0 || mth_maximum == kMinusInfinity) return mth_maximum;
  const float rate = 1 / temperature,
              least = safely_below(static_cast<double>(mth_maximum) / temperature + kLowNoise),
              assumed_noise = m < kManyArrivals ? kLowNoise : kHighNoise;
  open_blocks_.resize(std::max(open_blocks_.size(), block_bounds_.size() + kIndexSlack));
  likely_scores_.resize(2 * block_bounds_.size());
  const size_t n_open = indices_at_least(block_bounds_, least, 0, open_blocks_.data());
  size_t n = 0;
  for (const int32_t b : std::span(open_blocks_).first(n_open)) {
    const auto token =
        static_cast<size_t>(Clock::earliest_token(*block_draws_, static_cast<size_t>(b)));
    likely_scores_[n++] = row_.maxima()[b] * rate + assumed_noise;
    if (token < row_.logits().size() && row_.logits()[token] > kMinusInfinity)
      likely_scores_[n++] = row_.logits()[token] * rate + block_draws_->noise_bounds[b];
  }
  // 0.1 covers how far a noise bound may exceed the noise.
  const float mth_score = kth_greatest_or_less(std::span(likely_scores_).first(n), m);
  return std::max(least, safely_below(mth_score - 0.1));
}

// Returns the least logit with which a token of a block may reach a score, by the bound that the
// block's least clock sets.
float Race::least_logit(float temperature, float cutoff, float score, size_t block) const {
  if (temperature == 0) return std::max(cutoff, score);
  const double noise = block_draws_->noise_bounds[block];
  return std::max(cutoff, safely_below((static_cast<double>(score) - noise) * temperature));
}

// Adds to the arrivals the tokens that reach least_score. If they are many more than m, it adds the
// first m of them and perhaps others.
void Race::race_blocks(float temperature, const Clock& clock, size_t m, float cutoff,
                       float least_score) {
  open_blocks_.resize(std::max(open_blocks_.size(), block_bounds_.size() + kIndexSlack));
  tokens_.resize(kChunk + kIndexSlack);
  const size_t n_open =
      indices_at_least(block_bounds_, std::max(least_score, kLowest), 0, open_blocks_.data());
  size_t n = 0;
  for (size_t i = 0; i < n_open; ++i) {
    const auto b = static_cast<size_t>(open_blocks_[i]);
    if (block_bounds_[b] >= least_score)
      n += indices_at_least(row_.block(open_blocks_[i]),
                            least_logit(temperature, cutoff, least_score, b),
                            open_blocks_[i] * Clock::kBlock, tokens_.data() + n);
    if (n + Clock::kBlock <= kChunk && i + 1 < n_open) continue;
    race_tokens(temperature, clock, std::exchange(n, 0), least_score);
    if (arrivals_.size() < m + n_spare(m)) continue;
    keep_first(m);
    least_score = std::max(least_score, safely_below(arrivals_.back().score));
  }
}

// Adds to the arrivals those of the first n tokens that reach least_score.
void Race::race_tokens(float temperature, const Clock& clock, size_t n, float least_score) {
  const float* logits = row_.logits().data();
  if (temperature == 0) {
    for (const Token token : std::span(tokens_).first(n))
      arrivals_.push_back({token, logits[token]});
    return;
  }
  clock.draw_tokens(std::span(tokens_).first(n), *block_draws_, token_draws_);
  if (n > kTooFewToBound) n = drop_late_tokens(temperature, n, least_score);
  clocks_.resize(kChunk);
  Clock::compute_clocks(std::span(tokens_).first(n), *block_draws_, token_draws_, clocks_);
  clocks_to_scores(logits, tokens_.data(), n, temperature, clocks_.data());
  for (size_t i = 0; i < n; ++i)
    if (clocks_[i] >= least_score) arrivals_.push_back({tokens_[i], clocks_[i]});
}

// Removes the tokens that cannot reach least_score by the bounds of their own noise, and returns
// how many are left.
size_t Race::drop_late_tokens(float temperature, size_t n, float least_score) {
  token_bounds_.resize(kChunk);
  early_tokens_.resize(kChunk + kIndexSlack);
  for (size_t i = 0; i < n; ++i) token_bounds_[i] = row_.logits()[tokens_[i]];
  const std::span bounds = std::span(token_bounds_).first(n);
  bound_scores(bounds, temperature, kLowest, token_draws_.noise_bounds.data(), bounds.data());
  const size_t n_early = indices_at_least(bounds, least_score, 0, early_tokens_.data());
  for (size_t i = 0; i < n_early; ++i) {
    const auto from = static_cast<size_t>(early_tokens_[i]);
    tokens_[i] = tokens_[from], token_draws_.high[i] = token_draws_.high[from],
    token_draws_.low[i] = token_draws_.low[from];
  }
  return n_early;
}

void Race::keep_first(size_t m) {
  if (arrivals_.size() <= m) return;
  std::nth_element(arrivals_.begin(), arrivals_.begin() + static_cast<ptrdiff_t>(m) - 1,
                   arrivals_.end(), arrives_before);
  arrivals_.resize(m);
}

}  // namespace ersd
