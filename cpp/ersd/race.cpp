// A race visits only the blocks that can still arrive, and computes clocks only for tokens that can.
#include "ersd/race.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "ersd/logarithm.h"
#include "ersd/places.h"
#include "ersd/simd.h"

namespace ersd {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr size_t kScouted = 7;  // blocks that are looked into first, beside m
constexpr size_t kScouts = 4;   // tokens that are looked at in each of them, beside the leader
constexpr size_t kKept = 10;    // tokens that are raced one by one
constexpr size_t kFew = 32;     // tokens that are raced sooner than bounded

// bounds[i] = x[i] / temperature + noise[i], rounded up: the margin covers float arithmetic. Masked logits may be as low as floats go.
ERSD_VECTORISED void bound_scores(std::span<const float> x, float temperature, const float* noise, float* bounds) {
  const float rate = 1 / temperature, least = 0.9f * kLowest * std::min(temperature, 1.0f);
  for (size_t i = 0; i < x.size(); ++i) {
    const float scaled = (x[i] > least ? x[i] : least) * rate;
    bounds[i] = scaled + 3e-7f * std::abs(scaled) + noise[i];
  }
}

// scores[i] = logit / temperature - log(clock), in place of the clocks.
ERSD_VECTORISED void scores(const float* logits, const Token* tokens, size_t n, double temperature, double* clocks) {
  for (size_t i = 0; i < n; ++i) clocks[i] = static_cast<double>(logits[tokens[i]]) / temperature - logarithm(clocks[i]);
}

double race_score(float logit, float temperature, double clock) { return logit / static_cast<double>(temperature) - logarithm(clock); }

bool before(const Arrival& a, const Arrival& b) { return a.score > b.score || (a.score == b.score && a.token < b.token); }

// A float that is at most this, by a margin that covers the rounding of bounds.
float below(double x) {
  x = std::min<double>(x, -kLowest);
  x -= 1e-6 * std::abs(x);
  return x < kLowest ? -std::numeric_limits<float>::infinity() : static_cast<float>(x);
}

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
  run(logits, options, clock, m, below(score));
  size_t n_before = 0;
  bool arrived = false;
  for (const Arrival& a : arrivals_) n_before += before(a, {token, score}), arrived |= a.token == token;
  return arrived ? n_before : m;
}

void Race::run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock, size_t m, float floor) {
  row_.read(logits);
  arrivals_.clear();
  if (m == 0 || !(row_.maximum() > kNone)) return;
  const float cutoff = std::max(truncation_.cutoff(row_, options), kLowest);
  if (options.temperature > 0 && cutoff > kLowest && race_kept(options, clock, cutoff)) return keep_first(m);
  bound(options, clock, cutoff);
  const float promising = reached_by(block_bounds_, m + kScouted);
  float guess = floor;
  if (promising > floor) {
    scout(options.temperature, cutoff, promising);
    race(options, clock, floor);
    // The m-th score of these is a floor; one further up is a guess that holds where m tokens turn out to reach it.
    const auto score = [&](size_t n) {
      if (n == 0 || arrivals_.size() < n) return floor;
      keep_first(n);
      return std::max(floor, below(std::ranges::max_element(arrivals_, before)->score));
    };
    floor = score(m);
    guess = std::max(floor, score(m * 2 / 3));
  }
  while (true) {
    arrivals_.clear();
    collect(options.temperature, cutoff, guess);
    race(options, clock, guess);
    if (arrivals_.size() >= m || guess == floor) break;
    guess = floor;
  }
  keep_first(m);
}

// Where truncation keeps a few tokens, no block has to be bounded. Returns whether that is so.
bool Race::race_kept(const SamplingOptions& options, const Clock& clock, float cutoff) {
  reached_.resize(row_.maxima().size() + kPlacesSlack);
  const size_t n_reached = places(row_.maxima(), cutoff, 0, reached_.data());
  if (n_reached > kKept) return false;
  tokens_.resize(n_reached * Clock::kBlock + kPlacesSlack);
  size_t n = 0;
  for (const int32_t b : std::span(reached_).first(n_reached)) n += places(row_.block(b), cutoff, b * Clock::kBlock, tokens_.data() + n);
  if (n > kKept) return false;
  for (const Token token : std::span(tokens_).first(n))
    arrivals_.push_back({token, race_score(row_.logits()[token], options.temperature, clock(token))});
  return true;
}

// What is known of the blocks: no noise at temperature 0; bounds of -infinity where nothing is kept.
void Race::bound(const SamplingOptions& options, const Clock& clock, float cutoff) {
  const auto maxima = row_.maxima();
  block_bounds_.resize(maxima.size());
  if (options.temperature > 0) {
    clock.draw_blocks(maxima.size(), blocks_);
    bound_scores(maxima, options.temperature, blocks_.noise.data(), block_bounds_.data());
  } else {
    blocks_.resize(maxima.size());
    std::ranges::fill(blocks_.noise, 0.0f);
    std::copy(maxima.begin(), maxima.end(), block_bounds_.begin());
  }
  for (size_t b = 0; b < maxima.size(); ++b) block_bounds_[b] = maxima[b] >= cutoff ? block_bounds_[b] : kNone;
}

// Of the blocks whose bounds reach this: the token with the least clock, and the first few whose logits would reach it with that clock.
void Race::scout(float temperature, float cutoff, float promising) {
  reached_.resize(block_bounds_.size() + kPlacesSlack);
  const size_t n_reached = places(block_bounds_, promising, 0, reached_.data());
  tokens_.resize(n_reached * (kScouts + 1) + Clock::kBlock + kPlacesSlack);
  size_t n = 0;
  for (const int32_t b : std::span(reached_).first(n_reached)) {
    const Token leader = Clock::leader(blocks_, static_cast<size_t>(b)), first = b * Clock::kBlock;
    if (static_cast<size_t>(leader) < row_.logits().size() && row_.logits()[leader] >= cutoff) tokens_[n++] = leader;
    const size_t end = n + std::min(kScouts, places(row_.block(b), least_logit(temperature, cutoff, promising, b), first, tokens_.data() + n));
    const auto twice = std::find(tokens_.begin() + static_cast<ptrdiff_t>(n), tokens_.begin() + static_cast<ptrdiff_t>(end), leader);
    n = end;
    if (twice != tokens_.begin() + static_cast<ptrdiff_t>(end)) *twice = tokens_[--n];
  }
  tokens_.resize(n);
}

// The least logit with which a token of a block may reach a score, as far as the block's least clock says.
float Race::least_logit(float temperature, float cutoff, float score, int32_t block) const {
  return std::max(cutoff, temperature > 0 ? below((static_cast<double>(score) - blocks_.noise[block]) * temperature) : score);
}

// The kept tokens whose scores may reach the floor, as far as the noise of their blocks says.
void Race::collect(float temperature, float cutoff, float floor) {
  reached_.resize(block_bounds_.size() + kPlacesSlack);
  const size_t n_reached = places(block_bounds_, std::max(floor, kLowest), 0, reached_.data());
  tokens_.resize(n_reached * Clock::kBlock + kPlacesSlack);
  size_t n = 0;
  for (const int32_t b : std::span(reached_).first(n_reached))
    n += places(row_.block(b), least_logit(temperature, cutoff, floor, b), b * Clock::kBlock, tokens_.data() + n);
  tokens_.resize(n);
}

// Adds the tokens to the arrivals, without those that cannot reach the floor.
void Race::race(const SamplingOptions& options, const Clock& clock, float floor) {
  const float* logits = row_.logits().data();
  if (options.temperature == 0) {
    for (const Token token : tokens_) arrivals_.push_back({token, logits[token]});
    return;
  }
  clock.draw_tokens(tokens_, blocks_, draws_);
  if (tokens_.size() > kFew) drop_late(options.temperature, floor);
  clocks_.resize(tokens_.size());
  Clock::clocks(tokens_, blocks_, draws_, clocks_);
  scores(logits, tokens_.data(), tokens_.size(), options.temperature, clocks_.data());
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (clocks_[i] >= floor) arrivals_.push_back({tokens_[i], clocks_[i]});
}

// By what the draws say of the tokens' own noise.
void Race::drop_late(float temperature, float floor) {
  bounds_.resize(tokens_.size());
  reached_.resize(tokens_.size() + kPlacesSlack);
  for (size_t i = 0; i < tokens_.size(); ++i) bounds_[i] = row_.logits()[tokens_[i]];
  bound_scores(bounds_, temperature, draws_.noise.data(), bounds_.data());
  const size_t n = places(bounds_, floor, 0, reached_.data());
  for (size_t i = 0; i < n; ++i) {
    const auto from = static_cast<size_t>(reached_[i]);
    tokens_[i] = tokens_[from], draws_.high[i] = draws_.high[from], draws_.low[i] = draws_.low[from];
  }
  tokens_.resize(n);
}

void Race::keep_first(size_t m) {
  if (arrivals_.size() <= m) return;
  std::nth_element(arrivals_.begin(), arrivals_.begin() + static_cast<ptrdiff_t>(m) - 1, arrivals_.end(), before);
  arrivals_.resize(m);
}

}  // namespace ersd
