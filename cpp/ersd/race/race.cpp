// A race visits only the blocks that can still arrive, and computes clocks only for tokens that
// can.
#include "ersd/race/race.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "ersd/race/logarithm.h"
#include "ersd/race/simd/lanes.h"
#include "ersd/race/threshold.h"

namespace ersd {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr float kUnlucky = -1.1f;  // 95 % of all noise is more,
constexpr float kFair = 1.0f;      // a third of it more than this
constexpr size_t kMany = 16;       // arrivals of which some make up for others
constexpr size_t kKept = 10;       // tokens that are raced one by one
constexpr size_t kFew = 16;        // tokens that are raced sooner than bounded
constexpr size_t kChunk = 512;     // tokens that are drawn together, and no less than a block

// bounds[i] = x[i] / temperature + noise[i], rounded up: the margin covers float arithmetic. Masked
// logits may be as low as floats go. -infinity below the cutoff.
ERSD_VECTORISED void bound_scores(std::span<const float> x, float temperature, float cutoff,
                                  const float* noise, float* bounds) {
  const float rate = 1 / temperature, least = 0.9f * kLowest * std::min(temperature, 1.0f);
  for (size_t i = 0; i < x.size(); ++i) {
    const float scaled = (x[i] > least ? x[i] : least) * rate,
                bound = scaled + 3e-7f * std::abs(scaled) + noise[i];
    bounds[i] = x[i] >= cutoff ? bound : kNone;
  }
}

// scores[i] = logit / temperature - log(clock), in place of the clocks.
ERSD_VECTORISED void scores(const float* logits, const Token* tokens, size_t n, double temperature,
                            double* clocks) {
  for (size_t i = 0; i < n; ++i)
    clocks[i] = static_cast<double>(logits[tokens[i]]) / temperature - logarithm(clocks[i]);
}

double race_score(float logit, float temperature, double clock) {
  return logit / static_cast<double>(temperature) - logarithm(clock);
}

bool before(const Arrival& a, const Arrival& b) {
  return a.score > b.score || (a.score == b.score && a.token < b.token);
}

// Arrivals beside the first m that are kept before the later ones are dropped.
size_t more(size_t m) { return std::max<size_t>(m, 16); }

// A float that is at most this, by a margin that covers the rounding of bounds.
float below(double x) {
  x = std::min<double>(x, -kLowest);
  x -= 1e-6 * std::abs(x);
  return x < kLowest ? kNone : static_cast<float>(x);
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
  std::sort(arrivals_.begin(), arrivals_.end(), before);
  return arrivals_;
}

size_t Race::rank(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
                  Token token, size_t m) {
  if (token < 0 || static_cast<size_t>(token) >= logits.size() || !(logits[token] > kNone))
    return m;
  const double score = options.temperature > 0
                           ? race_score(logits[token], options.temperature, clock(token))
                           : logits[token];
  run(logits, options, clock, m, below(score));
  size_t n_before = 0;
  bool arrived = false;
  for (const Arrival& a : arrivals_)
    n_before += before(a, {token, score}), arrived |= a.token == token;
  return arrived ? n_before : m;
}

void Race::run(std::span<const float> logits, const SamplingOptions& options, const Clock& clock,
               size_t m, float floor) {
  row_.read(logits);
  arrivals_.clear();
  if (m == 0 || !(row_.maximum() > kNone)) return;
  const float cutoff = std::max(truncation_.cutoff(row_, options), kLowest);
  if (options.temperature > 0 && cutoff > kLowest && race_kept(options, clock, cutoff))
    return keep_first(m);
  bound(options.temperature, clock, cutoff);
  arrivals_.reserve(m + more(m) + kChunk);
  const float guess = std::max(floor, promising(options.temperature, m));
  for (const float least : {guess, std::max(floor, guess - 4), floor}) {
    arrivals_.clear();
    race_blocks(options.temperature, clock, m, cutoff, least);
    if (arrivals_.size() >= m || least == floor) break;
  }
  keep_first(m);
}

// Where truncation keeps a few tokens, no block has to be bounded. Returns whether that is so.
bool Race::race_kept(const SamplingOptions& options, const Clock& clock, float cutoff) {
  reached_.resize(row_.maxima().size() + kIndexSlack);
  const size_t n_reached = indices_at_least(row_.maxima(), cutoff, 0, reached_.data());
  if (n_reached > kKept) return false;
  tokens_.resize(n_reached * Clock::kBlock + kIndexSlack);
  size_t n = 0;
  for (const int32_t b : std::span(reached_).first(n_reached))
    n += indices_at_least(row_.block(b), cutoff, b * Clock::kBlock, tokens_.data() + n);
  if (n > kKept) return false;
  for (const Token token : std::span(tokens_).first(n))
    arrivals_.push_back(
        {token, race_score(row_.logits()[token], options.temperature, clock(token))});
  return true;
}

// What is known of the blocks: no noise at temperature 0; bounds of -infinity where nothing is
// kept.
void Race::bound(float temperature, const Clock& clock, float cutoff) {
  const auto maxima = row_.maxima();
  block_bounds_.resize(maxima.size());
  if (temperature > 0) {
    blocks_ = &drawn(clock, maxima.size());
  } else {
    silent_.fit(maxima.size());
    blocks_ = &silent_;
    temperature = 1;
  }
  bound_scores(maxima, temperature, cutoff, blocks_->noise.data(), block_bounds_.data());
}

// Draft and target race at the same positions, so their draws are kept for a while.
const Clock::Draws& Race::drawn(const Clock& clock, size_t n_blocks) {
  Drawn& drawn = drawn_[clock.position() % kPositions];
  if (!(drawn.clock == clock) || drawn.n_blocks < n_blocks) {
    clock.draw_blocks(n_blocks, drawn.blocks);
    drawn.clock = clock, drawn.n_blocks = n_blocks;
  }
  return drawn.blocks;
}

// A score that m tokens probably reach: the greatest of blocks without much luck, and those with
// the least clocks.
float Race::promising(float temperature, size_t m) {
  const float reached = reached_by(row_.maxima(), m);
  if (temperature == 0 || reached == kNone) return reached;
  const float rate = 1 / temperature,
              least = below(static_cast<double>(reached) / temperature + kUnlucky);
  reached_.resize(std::max(reached_.size(), block_bounds_.size() + kIndexSlack));
  likely_.resize(2 * block_bounds_.size());
  const size_t n_reached = indices_at_least(block_bounds_, least, 0, reached_.data());
  size_t n = 0;
  for (const int32_t b : std::span(reached_).first(n_reached)) {
    const auto leader = static_cast<size_t>(Clock::leader(*blocks_, static_cast<size_t>(b)));
    likely_[n++] = row_.maxima()[b] * rate + (m < kMany ? kUnlucky : kFair);
    if (leader < row_.logits().size() && row_.logits()[leader] > kNone)
      likely_[n++] = row_.logits()[leader] * rate + blocks_->noise[b];
  }
  return std::max(least, below(reached_by(std::span(likely_).first(n), m) - 0.1));
}

// The least logit with which a token of a block may reach a score, as far as the block's least
// clock says.
float Race::least_logit(float temperature, float cutoff, float score, size_t block) const {
  return std::max(cutoff,
                  temperature > 0
                      ? below((static_cast<double>(score) - blocks_->noise[block]) * temperature)
                      : score);
}

// Adds to the arrivals the tokens that reach the floor, or, where they are many more than m, the
// first m of them and perhaps others.
void Race::race_blocks(float temperature, const Clock& clock, size_t m, float cutoff, float floor) {
  reached_.resize(std::max(reached_.size(), block_bounds_.size() + kIndexSlack));
  tokens_.resize(kChunk + kIndexSlack);
  const size_t n_reached =
      indices_at_least(block_bounds_, std::max(floor, kLowest), 0, reached_.data());
  size_t n = 0;
  for (size_t i = 0; i < n_reached; ++i) {
    const auto b = static_cast<size_t>(reached_[i]);
    if (block_bounds_[b] >= floor)
      n += indices_at_least(row_.block(reached_[i]), least_logit(temperature, cutoff, floor, b),
                            reached_[i] * Clock::kBlock, tokens_.data() + n);
    if (n + Clock::kBlock <= kChunk && i + 1 < n_reached) continue;
    race(temperature, clock, std::exchange(n, 0), floor);
    if (arrivals_.size() < m + more(m)) continue;
    keep_first(m);
    floor = std::max(floor, below(arrivals_.back().score));
  }
}

// Adds of the first n tokens those that reach the floor.
void Race::race(float temperature, const Clock& clock, size_t n, float floor) {
  const float* logits = row_.logits().data();
  if (temperature == 0) {
    for (const Token token : std::span(tokens_).first(n))
      arrivals_.push_back({token, logits[token]});
    return;
  }
  clock.draw_tokens(std::span(tokens_).first(n), *blocks_, draws_);
  if (n > kFew) n = drop_late(temperature, n, floor);
  clocks_.resize(kChunk);
  Clock::clocks(std::span(tokens_).first(n), *blocks_, draws_, clocks_);
  scores(logits, tokens_.data(), n, temperature, clocks_.data());
  for (size_t i = 0; i < n; ++i)
    if (clocks_[i] >= floor) arrivals_.push_back({tokens_[i], clocks_[i]});
}

// Takes out tokens by what the draws say of their own noise; returns how many are left.
size_t Race::drop_late(float temperature, size_t n, float floor) {
  bounds_.resize(kChunk);
  early_.resize(kChunk + kIndexSlack);
  for (size_t i = 0; i < n; ++i) bounds_[i] = row_.logits()[tokens_[i]];
  bound_scores(std::span(bounds_).first(n), temperature, kLowest, draws_.noise.data(),
               bounds_.data());
  const size_t n_early = indices_at_least(std::span(bounds_).first(n), floor, 0, early_.data());
  for (size_t i = 0; i < n_early; ++i) {
    const auto from = static_cast<size_t>(early_[i]);
    tokens_[i] = tokens_[from], draws_.high[i] = draws_.high[from],
    draws_.low[i] = draws_.low[from];
  }
  return n_early;
}

void Race::keep_first(size_t m) {
  if (arrivals_.size() <= m) return;
  std::nth_element(arrivals_.begin(), arrivals_.begin() + static_cast<ptrdiff_t>(m) - 1,
                   arrivals_.end(), before);
  arrivals_.resize(m);
}

}  // namespace ersd
