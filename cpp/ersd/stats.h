// What a generation counts and times.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ersd {

constexpr size_t kSourceCount = 5;  // of drafts

// A rank histogram has one count for each of this many ranks, and one count for all later ranks.
constexpr size_t kHistogramRanks = 64;

// Counts of one generation, and times in milliseconds.
struct Stats {
  std::string strategy;      // that was used: "sequence" where a model cannot hold trees
  int64_t generated = 0;     // tokens of the answer
  int64_t end_tokens = 0;    // 1 if an end token, which is no part of it, ended the answer
  int64_t target_calls = 0;  // calls after the prompt
  int64_t draft_calls = 0;   // calls after the prompt
  int64_t drafted = 0;       // tree nodes without the roots
  int64_t accepted = 0;      // drafted tokens that became tokens of the answer
  // The same by source (draft/source.h). A token that several sources proposed counts for each.
  std::array<int64_t, kSourceCount> drafted_by{}, accepted_by{};

  // [n]: target calls that accepted n drafted tokens
  std::vector<int64_t> acceptance_histogram;
  // [r]: verified positions whose token was the (r + 1)-th of the draft's order
  std::array<int64_t, kHistogramRanks + 1> rank_histogram{};
  // [k]: target calls that checked k drafted tokens
  std::vector<int64_t> nodes_histogram;

  // Sums over all target calls of what the controller expected; 0 if the costs are not known.
  double expected_tokens = 0, expected_ms = 0;

  // Tokens that each model decoded, those of the prompt included.
  int64_t target_tokens = 0, draft_tokens = 0;
  int64_t cached_tokens = 0;  // prompt tokens that the target's cache already held

  double prefill_ms = 0, draft_ms = 0, target_ms = 0, race_ms = 0, total_ms = 0;

  // The end token is one that a call gave.
  double tokens_per_call() const {
    const auto n = static_cast<double>(generated + end_tokens);
    return target_calls ? n / static_cast<double>(target_calls) : 0;
  }
  double acceptance_rate() const {
    return drafted ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0;
  }
  // The time of the prompt is left out.
  double tokens_per_second() const {
    const double seconds = (total_ms - prefill_ms) / 1000;
    return seconds > 0 ? static_cast<double>(generated) / seconds : 0;
  }
};

}  // namespace ersd
