// What a generation counts and times.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ersd {

constexpr size_t kRanks =
    64;  // ranks in the draft's order that are told apart; later ones count together

// Counts of one generation. Times in milliseconds.
struct Stats {
  int64_t generated = 0;     // tokens of the answer
  int64_t target_calls = 0;  // after the prompt
  int64_t draft_calls = 0;
  int64_t drafted = 0;                        // tree nodes without the root
  int64_t accepted = 0;                       // drafted tokens that became tokens of the answer
  std::vector<int64_t> acceptance_histogram;  // [n]: target calls that accepted n drafted tokens
  std::array<int64_t, kRanks + 1> rank_histogram{};  // [r]: verified positions where the token was
                                                     // (r + 1)-th in the draft's order
  std::vector<int64_t> nodes_histogram;  // [k]: target calls that checked k drafted tokens
  double expected_tokens = 0,
         expected_ms = 0;  // what the controller expected of all calls; 0 where costs are not known
  int64_t target_tokens = 0,
          draft_tokens = 0;   // tokens that went through each model, the prompt included
  int64_t cached_tokens = 0;  // prompt tokens that the target's cache held already
  double prefill_ms = 0, draft_ms = 0, target_ms = 0, race_ms = 0, total_ms = 0;

  double tokens_per_call() const {
    return target_calls ? static_cast<double>(generated) / static_cast<double>(target_calls) : 0;
  }
  double acceptance_rate() const {
    return drafted ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0;
  }
  // Without the prompt.
  double tokens_per_second() const {
    const double seconds = (total_ms - prefill_ms) / 1000;
    return seconds > 0 ? static_cast<double>(generated) / seconds : 0;
  }
};

}  // namespace ersd
