// How many tokens of prompts a step reads while other sequences generate.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace ersd {

// Reading makes the step longer for everybody. The pacer learns how long steps take without it, by
// the number of sequences that generate, and how much longer they get by each number of tokens,
// since calls do not grow in proportion. It reads as much as makes steps longer by a given share.
class PromptPacer {
 public:
  // share: the share of a step's time that reading may take, at least 0 and less than 1.
  explicit PromptPacer(double share) : share_(share) {}

  // Tokens to read in the next step, in which n_sequences generate, 1 or more. Now and then it is
  // none, to see how long steps take without.
  int32_t n_tokens(int32_t n_sequences) const {
    const double ordinary_ms = ordinary_ms_[index_of(n_sequences)];
    if (ordinary_ms == 0 || n_reading_ >= kReadingSteps) return 0;
    const double wanted_ms = ordinary_ms * share_ / (1 - share_);
    size_t best = 0;
    for (size_t i = 0; i < kTokens.size(); ++i) {
      if (extra_ms_[i] == 0) {
        if (i > 0 && kUnseen * extra_ms_[i - 1] <= wanted_ms) best = i;
        break;
      }
      if (extra_ms_[i] <= wanted_ms) best = i;
    }
    return kTokens[best];
  }

  // Learns from a step in which n_sequences generated and n_read tokens of prompts were read, and
  // which took ms milliseconds. Other numbers of tokens than n_tokens() gives teach nothing.
  void learn(int32_t n_sequences, int32_t n_read, double ms) {
    double& ordinary_ms = ordinary_ms_[index_of(n_sequences)];
    n_reading_ = n_read == 0 ? 0 : n_reading_ + 1;
    if (n_read == 0) {
      ordinary_ms = ordinary_ms == 0 ? ms : ordinary_ms + kRate * (ms - ordinary_ms);
      return;
    }
    const auto at = std::ranges::lower_bound(kTokens, n_read);
    if (ordinary_ms == 0 || at == kTokens.end() || *at != n_read) return;
    double& extra_ms = extra_ms_[static_cast<size_t>(at - kTokens.begin())];
    const double seen = std::max(ms - ordinary_ms, kLeastExtra * ordinary_ms);
    if (extra_ms == 0) {
      extra_ms = seen;
      return;
    }
    const double ratio = std::clamp(seen / extra_ms, 1 / kMostRatio, kMostRatio);
    extra_ms *= std::pow(ratio, kRate - kRateOfAll);
    for (double& each : extra_ms_) each *= std::pow(ratio, kRateOfAll);
  }

 private:
  static constexpr std::array<int32_t, 22> kTokens{
      1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048};
  static constexpr double kRate = 0.3, kRateOfAll = 0.1;  // how fast means change
  static constexpr double kUnseen = 1.25;  // a number that was not tried yet may take so much more
  static constexpr double kMostRatio = 2;  // a step that stalled counts no more than this
  static constexpr double kLeastExtra = 0.01;
  static constexpr int32_t kReadingSteps = 16;  // in a row at most

  static constexpr size_t kMostSequences = 64;  // more count as so many

  static size_t index_of(int32_t n_sequences) {
    return std::min(static_cast<size_t>(n_sequences), kMostSequences);
  }

  double share_;
  std::array<double, kMostSequences + 1> ordinary_ms_{};  // 0 where it is not known
  std::array<double, kTokens.size()> extra_ms_{};         // 0 where it is not known
  int32_t n_reading_ = 0;                                 // steps in a row that read
};

}  // namespace ersd
