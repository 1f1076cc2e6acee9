// The table of all options: what each is called, which values it may have, and what it means.
// Validation, the Python package and the command line read it. The default of an option is the
// initialiser of its member.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ersd/check.h"
#include "ersd/decode/options.h"

namespace ersd {

// Which values an option may have, in words that follow "must be" and as a test.
template <class Value>
struct Range {
  const char* words = "";
  bool (*contains)(const Value&) = nullptr;  // null: every value of the type
};

// A number with a meaning of its own, such as -1 for "auto". A caller in Python writes the word
// instead of the number, or None if word is null.
struct Special {
  int32_t number;
  const char* word;
};

template <class Value>
struct ElementOf {
  using type = Value;
};
template <class Value>
struct ElementOf<std::vector<Value>> {
  using type = Value;
};

// How a message shows a value.
inline std::string in_message(std::integral auto value) { return shown(value); }
inline std::string in_message(std::floating_point auto value) { return shown(value); }
inline std::string in_message(const std::string& text) { return "'" + text + "'"; }
inline std::string in_message(const std::pair<Token, float>& bias) {
  return shown(bias.second) + " for token " + shown(bias.first);
}

// One option. Owner is the struct that it is a member of.
template <class Owner, class Value>
class Option {
 public:
  using Element = typename ElementOf<Value>::type;  // of a vector; else the value itself

  const char* name;
  Value Owner::* member;
  Range<Element> range;  // for a vector, that of each element
  const char* meaning;   // one sentence
  std::optional<Special> special;

  constexpr Option(const char* name_, Value Owner::* member_, Range<Element> range_,
                   const char* meaning_, std::optional<Special> special_ = {})
      : name(name_), member(member_), range(range_), meaning(meaning_), special(special_) {}
  constexpr Option(const char* name_, Value Owner::* member_, const char* meaning_)
      : Option(name_, member_, Range<Element>(), meaning_) {}

  // Throws std::invalid_argument if the value is out of range.
  void check(const Value& value) const {
    if (range.contains == nullptr || is_special(value)) return;
    if constexpr (std::is_same_v<Value, Element>)
      check_element(value);
    else
      for (const Element& element : value) check_element(element);
  }

  bool is_special(const Value& value) const {
    if constexpr (std::is_same_v<Value, int32_t>) return special && value == special->number;
    return false;
  }

 private:
  void check_element(const Element& element) const {
    if constexpr (requires { in_message(element); })
      if (!range.contains(element))
        throw std::invalid_argument(std::string(name) + " must be " + range.words + ", got " +
                                    in_message(element));
  }
};

inline constexpr Range<float> kTemperature{"0, or between 1e-6 and 1e6", [](const float& t) {
                                             return t == 0 || (t >= 1e-6f && t <= 1e6f);
                                           }};
inline constexpr Range<float> kProbability{"between 0 and 1",
                                           [](const float& p) { return p >= 0 && p <= 1; }};
inline constexpr Range<float> kKeptMass{"above 0 (1 keeps all tokens)",
                                        [](const float& p) { return p > 0; }};
inline constexpr Range<float> kFinite{"a finite number",
                                      [](const float& x) { return std::isfinite(x); }};
inline constexpr Range<float> kFinitePositive{
    "a finite number above 0", [](const float& x) { return std::isfinite(x) && x > 0; }};
inline constexpr Range<int32_t> kNotNegative{"at least 0", [](const int32_t& n) { return n >= 0; }};
inline constexpr Range<int32_t> kWindow{"at least -1", [](const int32_t& n) { return n >= -1; }};
inline constexpr Range<int32_t> kTokenLimit{"at least 0, or -1 to fill the context",
                                            [](const int32_t& n) { return n >= kFillContext; }};
static_assert(kMaxDraftNodes == 256, "the ranges below name this number");
inline constexpr Range<int32_t> kDepth{
    "between 1 and 256", [](const int32_t& n) { return n >= 1 && n <= kMaxDraftNodes; }};
inline constexpr Range<int32_t> kNodes{"between 1 and 256, or 'auto'", kDepth.contains};
inline constexpr Range<int32_t> kTopLogprobs{"None or at least 0", kNotNegative.contains};
inline constexpr Range<std::string> kNonEmpty{"non-empty strings",
                                              [](const std::string& s) { return !s.empty(); }};
inline constexpr Range<std::pair<Token, float>> kBias{
    "finite, or -infinity", [](const std::pair<Token, float>& bias) {
      return !std::isnan(bias.second) && bias.second != std::numeric_limits<float>::infinity();
    }};

inline constexpr std::tuple kOptions{
    Option{"max_tokens", &GenerationOptions::max_tokens, kTokenLimit,
           "The answer has at most this many tokens."},
    Option{"temperature", &SamplingOptions::temperature, kTemperature,
           "Logits are divided by the temperature; at 0 the most probable token is taken."},
    Option{"top_k", &SamplingOptions::top_k,
           "Only the k most probable tokens are kept; 0 or less keeps all."},
    Option{"top_p", &SamplingOptions::top_p, kKeptMass,
           "The most probable tokens are kept until their probabilities sum to this value."},
    Option{"min_p", &SamplingOptions::min_p, kProbability,
           "Tokens are kept if they are at least min_p times as probable as the most probable "
           "token; 0 keeps all."},
    Option{"typical_p", &SamplingOptions::typical_p, kKeptMass,
           "The tokens whose surprise is nearest to the expected surprise are kept until their "
           "probabilities sum to this value."},
    Option{"xtc_probability", &SamplingOptions::xtc_probability, kProbability,
           "With this probability, XTC (exclude top choices) removes all tokens that reach "
           "xtc_threshold except the least probable of them."},
    Option{"xtc_threshold", &SamplingOptions::xtc_threshold, kProbability,
           "XTC removes only tokens that are at least this probable; above 0.5 it is off."},
    Option{
        "repeat_penalty", &LogitsProcessorOptions::repeat_penalty, kFinitePositive,
        "The logits of tokens that occurred are divided by this if positive, and multiplied by it "
        "if negative; 1 is off."},
    Option{"frequency_penalty", &LogitsProcessorOptions::frequency_penalty, kFinite,
           "This is subtracted from a token's logit once for every time that the token occurred."},
    Option{"presence_penalty", &LogitsProcessorOptions::presence_penalty, kFinite,
           "This is subtracted once from the logit of a token that occurred."},
    Option{"penalty_last_n", &LogitsProcessorOptions::penalty_last_n, kWindow,
           "The repeat, frequency and presence penalties look back over this many tokens of prompt "
           "and answer; -1 means all of them, 0 turns the penalties off."},
    Option{"penalize_prompt", &LogitsProcessorOptions::penalize_prompt,
           "The repeat, frequency and presence penalties see the tokens of the prompt, too."},
    Option{"dry_multiplier", &LogitsProcessorOptions::dry_multiplier, kFinite,
           "DRY (don't repeat yourself) subtracts multiplier * base^(n - allowed_length) from the "
           "logit of a token that would continue a repetition of n tokens; 0 is off."},
    Option{"dry_base", &LogitsProcessorOptions::dry_base, kFinitePositive,
           "DRY's penalty grows by this factor with every token of the repetition."},
    Option{"dry_allowed_length", &LogitsProcessorOptions::dry_allowed_length, kNotNegative,
           "DRY penalises repetitions of at least this many tokens."},
    Option{"dry_penalty_last_n", &LogitsProcessorOptions::dry_penalty_last_n, kWindow,
           "DRY looks back over this many tokens; -1 means all of them, 0 turns DRY off."},
    Option{"dry_sequence_breakers", &LogitsProcessorOptions::dry_sequence_breakers, kNonEmpty,
           "A repetition, as DRY counts it, ends at each of these strings."},
    Option{"logit_bias", &LogitsProcessorOptions::logit_bias, kBias,
           "The bias of a token is added to its logit; -infinity excludes the token."},
    Option{"ignore_eos", &LogitsProcessorOptions::ignore_eos, "End tokens are never chosen."},
    Option{"grammar", &LogitsProcessorOptions::grammar,
           "The answer matches the rule \"root\" of this grammar in GBNF, llama.cpp's notation."},
    Option{"logits_processor", &LogitsProcessorOptions::logits_processor,
           "A callable (input_ids, scores) -> scores changes the target's logits before all other "
           "options."},
    Option{"logprobs", &GenerationOptions::logprobs, kTopLogprobs,
           "Every token of the answer comes with its log-probability and those of this many most "
           "probable tokens, by the target's logits before any option changes them.",
           Special{kNoLogprobs, nullptr}},
    Option{"seed", &GenerationOptions::seed,
           "The same seed, target, prompt and options give the same text."},
    Option{"stop", &GenerationOptions::stop, kNonEmpty,
           "The answer ends before the first of these strings that appears in it."},
    Option{"method", &GenerationOptions::method,
           "The method decides which drafted tokens are accepted."},
    Option{"strategy", &GenerationOptions::strategy,
           "The strategy decides the shape of the draft tree."},
    Option{"draft_nodes", &GenerationOptions::draft_nodes, kNodes,
           "This many tokens are drafted for each target call; 'auto' drafts as many as make "
           "generation fastest, and none where plain decoding is faster.",
           Special{kAuto, "auto"}},
    Option{"draft_depth", &GenerationOptions::draft_depth, kDepth,
           "No path of the draft tree is longer than this."},
    Option{"adapt_draft", &GenerationOptions::adapt_draft,
           "With method 'ersd', the draft corrects itself by what the target says of its "
           "proposals, from one answer to the next."},
    Option{"draft_trees", &GenerationOptions::draft_trees,
           "Every step comes with the tree that was drafted for it."},
    Option{
        "draft_sources", &GenerationOptions::draft_sources,
        "Drafts come from these sources: 'model' is the draft model, 'lookup' repeats prompt and "
        "answer, 'history' the texts of earlier requests and references, 'prediction' the "
        "expected answer, and 'grammar' has tokens that are forced."},
    Option{"prediction", &GenerationOptions::prediction,
           "The answer that is expected. The nearer the answer comes to it, the fewer calls it "
           "takes."},
    Option{"references", &GenerationOptions::references,
           "The answer may repeat parts of these texts."},
};

// Calls visit(option, value) for every option of a SamplingOptions, a LogitsProcessorOptions or a
// GenerationOptions, which holds one of each.
template <class Options, class Visit>
void for_each_option(Options& options, Visit visit) {
  const auto visit_one = [&]<class Owner, class Value>(const Option<Owner, Value>& option) {
    if constexpr (std::is_same_v<std::remove_const_t<Options>, Owner>)
      visit(option, options.*option.member);
    else if constexpr (requires { options.sampling.*option.member; })
      visit(option, options.sampling.*option.member);
    else if constexpr (requires { options.processors.*option.member; })
      visit(option, options.processors.*option.member);
  };
  std::apply([&](const auto&... option) { (visit_one(option), ...); }, kOptions);
}

// Throws std::invalid_argument for the first option that is out of its range.
template <class Options>
void check_ranges(const Options& options) {
  for_each_option(options, [](const auto& option, const auto& value) { option.check(value); });
}

}  // namespace ersd
