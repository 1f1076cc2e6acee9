// What a caller can ask of a generation, and what it is told afterwards.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ersd/coupling.h"
#include "ersd/histogram.h"
#include "ersd/sampling.h"
#include "ersd/shaping.h"
#include "ersd/tree.h"

namespace ersd {

enum class Strategy {
  kSimple,    // one token
  kSequence,  // a chain
  kBatch,     // children of the root
  kTree,      // the optimal tree for the ranks seen so far
  kAdaptive,  // the tree that the margins of the realised race make probable
};

// From and to the names that users write. Throw std::invalid_argument that lists the known names.
Method method_from(std::string_view name);
Strategy strategy_from(std::string_view name);
const char* to_string(Method method);
const char* to_string(Strategy strategy);

// The best strategy that a method allows: adaptive trees for races, static ones for rejection sampling.
constexpr Strategy default_strategy(Method method) { return is_race(method) ? Strategy::kAdaptive : Strategy::kTree; }

constexpr int32_t kAuto = -1;

// What shapes logits before truncation, by the tokens before them; in this order, with llama.cpp's names and meaning. Prompt and answer both count.
struct ShapingOptions {
  std::shared_ptr<LogitsShaper> logits_processor;   // the caller's own, for the target; null: none
  std::vector<std::pair<Token, float>> logit_bias;  // added to the logits of tokens; -infinity: never chosen
  bool ignore_eos = false;                          // end tokens are never chosen
  float repeat_penalty = 1;                         // logits of tokens that occurred are divided by it, negative ones multiplied; 1: off
  float frequency_penalty = 0;                      // subtracted as often as the token occurred
  float presence_penalty = 0;                       // subtracted once
  int32_t penalty_last_n = 64;                      // how many tokens these three look back; -1: all, 0: off
  float dry_multiplier = 0;                         // "don't repeat yourself": a token that goes on with a repetition of n tokens loses
  float dry_base = 1.75f;                           //   multiplier * base^(n - allowed_length),
  int32_t dry_allowed_length = 2;                   //   where n is at least this; multiplier 0: off
  int32_t dry_penalty_last_n = -1;                  // how many tokens it looks back; -1: all, 0: off
  std::vector<std::string> dry_sequence_breakers{"\n", ":", "\"", "*"};  // repetitions end at these
  std::string grammar;                                                   // GBNF: what the answer must match, by its rule "root"; empty: anything

  // Throws std::invalid_argument naming the option, what was expected and what came.
  void validate() const;
};

constexpr int32_t kNoLogprobs = -1;

struct GenerationOptions {
  int32_t max_tokens = -1;  // -1: until the context is full
  SamplingOptions sampling;
  ShapingOptions shaping;
  int32_t logprobs = kNoLogprobs;  // of each token of the answer, and of as many of the most probable ones
  uint64_t seed = 0;
  std::vector<std::string> stop;  // UTF-8; generation ends before the first of them in the text
  Method method = Method::kErsd;
  Strategy strategy = default_strategy(Method::kErsd);
  int32_t draft_nodes = kAuto;  // k, 1 to 256, or as many as pay (Controller); "simple" drafts one token at most
  bool adapt_draft = true;      // method kErsd: let the draft correct itself by what the target says
  int32_t draft_depth = 64;     // no drafted token is further than this from the last committed one

  // Throws std::invalid_argument naming the option, what was expected and what came.
  void validate() const;
};

// Counts of one generation. Times in milliseconds.
struct Stats {
  int64_t generated = 0;     // tokens of the answer
  int64_t target_calls = 0;  // after the prompt
  int64_t draft_calls = 0;
  int64_t drafted = 0;                                              // tree nodes without the root
  int64_t accepted = 0;                                             // drafted tokens that became tokens of the answer
  std::vector<int64_t> acceptance_histogram;                        // [n]: target calls that accepted n drafted tokens
  std::array<int64_t, RankHistogram::kRanks + 1> rank_histogram{};  // [r]: verified positions where the token was (r + 1)-th in the draft's order
  std::vector<int64_t> nodes_histogram;                             // [k]: target calls that checked k drafted tokens
  double expected_tokens = 0, expected_ms = 0;                      // what the controller expected of all calls; 0 where costs are not known
  int64_t target_tokens = 0, draft_tokens = 0;                      // tokens that went through each model, the prompt included
  int64_t cached_tokens = 0;                                        // prompt tokens that the target's cache held already
  double prefill_ms = 0, draft_ms = 0, target_ms = 0, race_ms = 0, total_ms = 0;

  double tokens_per_call() const { return target_calls ? static_cast<double>(generated) / static_cast<double>(target_calls) : 0; }
  double acceptance_rate() const { return drafted ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0; }
  double tokens_per_second() const;  // without the prompt
};

}  // namespace ersd
