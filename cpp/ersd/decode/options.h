// What a caller can ask of a generation, and what it is told afterwards.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ersd/race/sampling.h"
#include "ersd/tree/draft_tree.h"
#include "ersd/verify/coupling.h"
#include "ersd/verify/logits_processor.h"

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

// The best strategy that a method allows: adaptive trees for races, static ones for rejection
// sampling.
constexpr Strategy default_strategy(Method method) {
  return is_race(method) ? Strategy::kAdaptive : Strategy::kTree;
}

constexpr int32_t kAuto = -1;

// What shapes logits before truncation, by the tokens before them; in this order, with llama.cpp's
// names and meaning. Prompt and answer both count.
struct LogitsProcessorOptions {
  std::shared_ptr<LogitsProcessor>
      logits_processor;  // the caller's own, for the target; null: none
  std::vector<std::pair<Token, float>>
      logit_bias;           // added to the logits of tokens; -infinity: never chosen
  bool ignore_eos = false;  // end tokens are never chosen
  float repeat_penalty =
      1;  // logits of tokens that occurred are divided by it, negative ones multiplied; 1: off
  float frequency_penalty = 0;  // subtracted as often as the token occurred
  float presence_penalty = 0;   // subtracted once
  int32_t penalty_last_n = 64;  // how many tokens these three look back; -1: all, 0: off
  float dry_multiplier =
      0;  // "don't repeat yourself": a token that goes on with a repetition of n tokens loses
  float dry_base = 1.75f;           //   multiplier * base^(n - allowed_length),
  int32_t dry_allowed_length = 2;   //   where n is at least this; multiplier 0: off
  int32_t dry_penalty_last_n = -1;  // how many tokens it looks back; -1: all, 0: off
  std::vector<std::string> dry_sequence_breakers{"\n", ":", "\"", "*"};  // repetitions end at these
  std::string grammar;  // GBNF: what the answer must match, by its rule "root"; empty: anything

  // Throws std::invalid_argument naming the option, what was expected and what came.
  void validate() const;
};

constexpr int32_t kNoLogprobs = -1;

struct GenerationOptions {
  int32_t max_tokens = -1;  // -1: until the context is full
  SamplingOptions sampling;
  LogitsProcessorOptions processors;
  int32_t logprobs =
      kNoLogprobs;  // of each token of the answer, and of as many of the most probable ones
  uint64_t seed = 0;
  std::vector<std::string> stop;  // UTF-8; generation ends before the first of them in the text
  Method method = Method::kErsd;
  Strategy strategy = default_strategy(Method::kErsd);
  int32_t draft_nodes =
      kAuto;  // k, 1 to 256, or as many as pay (Controller); "simple" drafts one token at most
  bool adapt_draft = true;   // method kErsd: let the draft correct itself by what the target says
  int32_t draft_depth = 64;  // no drafted token is further than this from the last committed one

  // Throws std::invalid_argument naming the option, what was expected and what came.
  void validate() const;
};

}  // namespace ersd
