// What a caller can ask of a generation. option_table.h says what each option means.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ersd/draft/source.h"
#include "ersd/race/sampling_options.h"
#include "ersd/tree/draft_tree.h"
#include "ersd/verify/coupling.h"
#include "ersd/verify/logits_processor.h"

namespace ersd {

enum class Strategy {
  kSimple,    // one token
  kSequence,  // a chain
  kBatch,     // children of the root
  kTree,      // the best tree for the ranks that the target's tokens had so far
  kAdaptive,  // a tree of the nodes that the margins of this race make most probable
};

// Conversions from and to the names that users write. The first two throw std::invalid_argument
// for an unknown name, and the message lists the known ones.
Method method_from(std::string_view name);
Strategy strategy_from(std::string_view name);
const char* to_string(Method method);
const char* to_string(Strategy strategy);

// The known names, quoted and separated by commas.
std::string method_names();
std::string strategy_names();

// The best strategy that a method allows. Adaptive trees are chosen after looking at the draws, so
// rejection sampling would not be exact with them. Block verification is for chains.
constexpr Strategy default_strategy(Method method) {
  if (method == Method::kBlock) return Strategy::kSequence;
  return is_race(method) ? Strategy::kAdaptive : Strategy::kTree;
}

constexpr int32_t kAuto = -1;         // draft_nodes: the DraftController chooses
constexpr int32_t kNoLogprobs = -1;   // logprobs: none are wanted
constexpr int32_t kFillContext = -1;  // max_tokens: until the context is full

// Options that change logits by the tokens before them, prompt and answer alike. They act before
// truncation, with llama.cpp's names and meaning.
struct LogitsProcessorOptions {
  std::shared_ptr<LogitsProcessor> logits_processor;  // null: none
  std::vector<std::pair<Token, float>> logit_bias;    // tokens and what is added to their logits
  bool ignore_eos = false;
  float repeat_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  int32_t penalty_last_n = 64;
  bool penalize_prompt = true;
  float dry_multiplier = 0;
  float dry_base = 1.75f;
  int32_t dry_allowed_length = 2;
  int32_t dry_penalty_last_n = -1;
  std::vector<std::string> dry_sequence_breakers{"\n", ":", "\"", "*"};
  std::shared_ptr<const Grammar> grammar;  // null: any text
};

// Where drafts come from, for an option that is a set of names.
struct DraftSources {
  Sources set = bit(Source::kModel);
  bool has(Source source) const { return (set & bit(source)) != 0; }
};

// One source of each name. Throws std::invalid_argument for an unknown name.
DraftSources sources_from(const std::vector<std::string>& names);
const char* to_string(Source source);
std::string source_names();

struct GenerationOptions {
  int32_t max_tokens = 128;
  SamplingOptions sampling;
  LogitsProcessorOptions processors;
  int32_t logprobs = kNoLogprobs;
  uint64_t seed = 0;
  std::vector<std::string> stop;  // UTF-8
  Method method = Method::kErsd;
  Strategy strategy = default_strategy(Method::kErsd);
  int32_t draft_nodes = kAuto;
  int32_t draft_depth = 64;
  bool adapt_draft = true;
  bool draft_trees = false;
  DraftSources draft_sources;
  std::vector<Token> prediction;               // the expected answer; empty for none
  std::vector<std::vector<Token>> references;  // texts of which the answer may have parts

  // Throws std::invalid_argument for an option that is out of its range, or if the strategy does
  // not fit the method.
  void validate() const;
};

}  // namespace ersd
