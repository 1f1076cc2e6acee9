// How many tokens of prompts a step reads while other sequences generate.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace ersd {

// Reading makes the step longer for everybody. The pacer learns how long steps take without it, by
// the number of sequences that generate, and how much longer they get by each number of tokens,
// since calls do not grow in proportion. It reads as much as makes steps longer by a given share,
// both by what it has learnt and by the measured costs of calls: times that were seen on a busy
// machine must not make a piece too long.
class PromptPacer {
 public:
  // By how many ordinary steps the costs of calls say that reading n tokens makes a step longer; 0
  // where they do not say it.
  using Expected = std::function<double(int32_t n)>;

  // share: the share of a step's time that reading may take, at least 0 and less than 1.
  explicit PromptPacer(double share) : share_(share) {}

  // Tokens to read in the next step, in which n_sequences generate, 1 or more. Now and then it is
  // none, to see how long steps take without.
  // n_cached: tokens before them, which the longest of the prompts has in the cache. Each token
  //   attends to them, so that it takes longer the more they are.
  // expected: empty while the costs of calls are not known.
  int32_t n_tokens(int32_t n_sequences, int32_t n_cached = 0, const Expected& expected = {}) const {
    const double ordinary_ms = ordinary_ms_[index_of(n_sequences)];
    if (ordinary_ms == 0 || n_reading_ >= kReadingSteps) return 0;
    if (!expected && is_deeper(n_cached)) return kTokens.front();
    const double wanted = share_ / (1 - share_);  // in ordinary steps
    size_t best = 0;
    for (size_t i = 0; i < kTokens.size(); ++i) {
      if (expected && expected(kTokens[i]) > wanted) break;
      const bool is_seen = extra_ms_[i] > 0;
      const double ms = is_seen || i == 0 ? extra_ms_[i] : guess(i);
      if (ms <= wanted * ordinary_ms) best = i;
      if (!is_seen) break;
    }
    return kTokens[best];
  }

  // Learns from a step in which n_sequences generated and n_read tokens of prompts were read after
  // n_cached others, and which took ms milliseconds. Other numbers of tokens than n_tokens() gives
  // teach nothing.
  void learn(int32_t n_sequences, int32_t n_read, double ms, int32_t n_cached = 0) {
    double& ordinary_ms = ordinary_ms_[index_of(n_sequences)];
    n_reading_ = n_read == 0 ? 0 : n_reading_ + 1;
    if (n_read == 0) {
      ordinary_ms =
          ordinary_ms == 0 ? ms : ordinary_ms * std::pow(bounded(ms / ordinary_ms), kRate);
      return;
    }
    const auto at = std::ranges::lower_bound(kTokens, n_read);
    if (ordinary_ms == 0 || at == kTokens.end() || *at != n_read) return;
    if (is_deeper(n_cached)) extra_ms_.fill(0);
    n_cached_ = n_cached;
    double& extra_ms = extra_ms_[static_cast<size_t>(at - kTokens.begin())];
    const double seen = std::max(ms - ordinary_ms, kLeastExtra * ordinary_ms);
    if (extra_ms == 0) {
      extra_ms = seen;
      return;
    }
    const double ratio = bounded(seen / extra_ms);
    extra_ms *= std::pow(ratio, kRate - kRateOfAll);
    for (double& each : extra_ms_) each *= std::pow(ratio, kRateOfAll);
  }

 private:
  static constexpr std::array<int32_t, 22> kTokens{
      1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048};
  static constexpr double kRate = 0.3, kRateOfAll = 0.1;  // how fast means change
  static constexpr double kMostRatio = 2;  // a step that stalled counts no more than this
  static constexpr double kLeastExtra = 0.01;
  static constexpr int32_t kReadingSteps = 16;  // in a row at most

  static constexpr size_t kMostSequences = 64;  // more count as so many

  // Where the cache holds so many times more tokens than it did, what was learnt does not hold. The
  // work for a token beside attention is at least that of attention to kLeastDepth tokens.
  static constexpr int32_t kDeeper = 2, kLeastDepth = 512;
  bool is_deeper(int32_t n_cached) const {
    return kLeastDepth + n_cached > kDeeper * (kLeastDepth + n_cached_);
  }

  // The time of a number of tokens that was not tried yet, in the middle between that of the one
  // before and what is in proportion to it.
  double guess(size_t i) const {
    return extra_ms_[i - 1] * (1 + static_cast<double>(kTokens[i]) / kTokens[i - 1]) / 2;
  }

  static double bounded(double ratio) { return std::clamp(ratio, 1 / kMostRatio, kMostRatio); }

  static size_t index_of(int32_t n_sequences) {
    return std::min(static_cast<size_t>(n_sequences), kMostSequences);
  }

  double share_;
  std::array<double, kMostSequences + 1> ordinary_ms_{};  // 0 where it is not known
  std::array<double, kTokens.size()> extra_ms_{};         // 0 where it is not known
  int32_t n_reading_ = 0;                                 // steps in a row that read
  int32_t n_cached_ = 0;                                  // tokens before those of the last one
};

}  // namespace ersd
