// How many tokens of prompts a step reads while other sequences generate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ersd {

// Reading makes the step longer for everybody. The pacer learns how long steps take without it, and
// reads as much as makes them longer by a given share.
class PromptPacer {
 public:
  // share: the share of a step's time that reading may take, at least 0 and less than 1.
  explicit PromptPacer(double share) : share_(share) {}

  // Tokens to read in the next step, 1 or more.
  int32_t n_tokens() const { return std::max(1, static_cast<int32_t>(n_tokens_)); }

  // Learns from a step in which sequences generated and n_read tokens of prompts were read, and
  // which took ms milliseconds.
  void learn(int32_t n_read, double ms) {
    if (n_read == 0) {
      ordinary_ms_ = ordinary_ms_ == 0 ? ms : ordinary_ms_ + kRate * (ms - ordinary_ms_);
      return;
    }
    if (ordinary_ms_ == 0 || n_read < n_tokens()) return;
    const double wanted_ms = ordinary_ms_ / (1 - share_);
    const double ratio = std::clamp(wanted_ms / ms, 1 / kMostRatio, kMostRatio);
    n_tokens_ = std::clamp(n_tokens_ * std::pow(ratio, kRate), 1.0, kMostTokens);
  }

 private:
  static constexpr double kFirst = 8;      // tokens until steps were seen
  static constexpr double kRate = 0.2;     // how fast the mean and the number of tokens change
  static constexpr double kMostRatio = 2;  // a step that stalled counts no more than this
  static constexpr double kMostTokens = 1 << 16;

  double share_, n_tokens_ = kFirst, ordinary_ms_ = 0;
};

}  // namespace ersd
