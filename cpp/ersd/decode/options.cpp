// Names, validation and derived figures of options and stats.
#include "ersd/decode/options.h"

#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "ersd/check.h"

namespace ersd {
namespace {

constexpr std::array kMethodNames{
    std::pair{"ersd", Method::kErsd}, std::pair{"ar", Method::kAr}, std::pair{"gsd", Method::kGsd},
    std::pair{"gsd_iid", Method::kGsdIid}, std::pair{"match", Method::kMatch}};
constexpr std::array kStrategyNames{
    std::pair{"simple", Strategy::kSimple}, std::pair{"sequence", Strategy::kSequence},
    std::pair{"batch", Strategy::kBatch}, std::pair{"tree", Strategy::kTree},
    std::pair{"adaptive", Strategy::kAdaptive}};

template <class Names>
auto from(const char* option, const Names& names, std::string_view name) {
  std::string known;
  for (const auto& [text, value] : names) {
    if (name == text) return value;
    known += (known.empty() ? "'" : ", '") + std::string(text) + "'";
  }
  throw std::invalid_argument(std::string(option) + " must be one of " + known + ", got '" +
                              std::string(name) + "'");
}

template <class Names, class Value>
const char* name_of(const Names& names, Value wanted) {
  for (const auto& [text, value] : names)
    if (value == wanted) return text;
  return "unknown";
}

}  // namespace

Method method_from(std::string_view name) { return from("method", kMethodNames, name); }
Strategy strategy_from(std::string_view name) { return from("strategy", kStrategyNames, name); }
const char* to_string(Method method) { return name_of(kMethodNames, method); }
const char* to_string(Strategy strategy) { return name_of(kStrategyNames, strategy); }

void LogitsProcessorOptions::validate() const {
  const auto check_finite = [](const char* option, float value, bool positive) {
    if (!std::isfinite(value) || (positive && value <= 0))
      throw std::invalid_argument(std::string(option) + " must be a finite number" +
                                  (positive ? " above 0" : "") + ", got " + std::to_string(value));
  };
  check_finite("repeat_penalty", repeat_penalty, true);
  check_finite("frequency_penalty", frequency_penalty, false);
  check_finite("presence_penalty", presence_penalty, false);
  check_finite("dry_multiplier", dry_multiplier, false);
  check_finite("dry_base", dry_base, true);
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  check_between("penalty_last_n", penalty_last_n, -1, kMost);
  check_between("dry_allowed_length", dry_allowed_length, 0, kMost);
  check_between("dry_penalty_last_n", dry_penalty_last_n, -1, kMost);
  for (const auto& [token, bias] : logit_bias)
    if (std::isnan(bias) || bias == std::numeric_limits<float>::infinity())
      throw std::invalid_argument("logit_bias must be finite, or -infinity, got " +
                                  std::to_string(bias) + " for token " + std::to_string(token));
  for (const auto& text : dry_sequence_breakers)
    if (text.empty())
      throw std::invalid_argument(
          "dry_sequence_breakers must be non-empty strings, got an empty one");
}

void GenerationOptions::validate() const {
  sampling.validate();
  processors.validate();
  if (logprobs < kNoLogprobs) refuse("logprobs", "at least 0", logprobs);
  if (max_tokens < -1) refuse("max_tokens", "at least 0, or -1 to fill the context", max_tokens);
  if (draft_nodes != kAuto && (draft_nodes < 1 || draft_nodes > kMaxDraftNodes))
    refuse("draft_nodes", "between 1 and " + std::to_string(kMaxDraftNodes) + ", or 'auto'",
           draft_nodes);
  if (strategy == Strategy::kAdaptive && !is_race(method))
    throw std::invalid_argument(
        std::string("strategy 'adaptive' needs a method of races, 'ersd' or 'match', got '") +
        to_string(method) +
        "': rejection sampling is not exact for trees chosen after looking at the draws");
  check_between("draft_depth", draft_depth, 1, kMaxDraftNodes);
  for (const auto& text : stop)
    if (text.empty())
      throw std::invalid_argument("stop must be non-empty strings, got an empty one");
}

}  // namespace ersd
