// Names of methods and strategies, and the validation of options.
#include "ersd/decode/options.h"

#include <array>
#include <stdexcept>
#include <utility>

#include "ersd/decode/option_table.h"

namespace ersd {
namespace {

constexpr std::array kMethodNames{
    std::pair{"ersd", Method::kErsd},   std::pair{"ar", Method::kAr},
    std::pair{"gsd", Method::kGsd},     std::pair{"gsd_iid", Method::kGsdIid},
    std::pair{"match", Method::kMatch}, std::pair{"block", Method::kBlock}};
constexpr std::array kStrategyNames{
    std::pair{"simple", Strategy::kSimple}, std::pair{"sequence", Strategy::kSequence},
    std::pair{"batch", Strategy::kBatch}, std::pair{"tree", Strategy::kTree},
    std::pair{"adaptive", Strategy::kAdaptive}};

template <class Names>
std::string list_of(const Names& names) {
  std::string list;
  for (const auto& [name, value] : names)
    list += (list.empty() ? "'" : ", '") + std::string(name) + "'";
  return list;
}

template <class Names>
auto value_of(const char* option, const Names& names, std::string_view wanted) {
  for (const auto& [name, value] : names)
    if (wanted == name) return value;
  throw std::invalid_argument(std::string(option) + " must be one of " + list_of(names) +
                              ", got '" + std::string(wanted) + "'");
}

template <class Names, class Value>
const char* name_of(const Names& names, Value wanted) {
  for (const auto& [name, value] : names)
    if (value == wanted) return name;
  return "unknown";
}

constexpr std::array kSourceNames{
    std::pair{"lookup", Source::kLookup}, std::pair{"history", Source::kHistory},
    std::pair{"prediction", Source::kPrediction}, std::pair{"grammar", Source::kGrammar},
    std::pair{"model", Source::kModel}};
static_assert(kSourceNames.size() == kSourceCount);

}  // namespace

DraftSources sources_from(const std::vector<std::string>& names) {
  DraftSources sources{0};
  for (const std::string& name : names)
    sources.set |= bit(value_of("draft_sources", kSourceNames, name));
  return sources;
}
const char* to_string(Source source) { return name_of(kSourceNames, source); }
std::string source_names() { return list_of(kSourceNames); }

Method method_from(std::string_view name) { return value_of("method", kMethodNames, name); }
Strategy strategy_from(std::string_view name) { return value_of("strategy", kStrategyNames, name); }
const char* to_string(Method method) { return name_of(kMethodNames, method); }
const char* to_string(Strategy strategy) { return name_of(kStrategyNames, strategy); }
std::string method_names() { return list_of(kMethodNames); }
std::string strategy_names() { return list_of(kStrategyNames); }

void GenerationOptions::validate() const {
  check_ranges(*this);
  if (method == Method::kBlock && strategy != Strategy::kSequence && strategy != Strategy::kSimple)
    throw std::invalid_argument(
        std::string("method 'block' verifies a chain, so strategy must be 'sequence' or 'simple', "
                    "got '") +
        to_string(strategy) + "'");
  if (strategy == Strategy::kAdaptive && !is_race(method))
    throw std::invalid_argument(
        std::string("strategy 'adaptive' needs a method of races, 'ersd' or 'match', got '") +
        to_string(method) +
        "': rejection sampling is not exact for trees chosen after looking at the draws");
}

}  // namespace ersd
