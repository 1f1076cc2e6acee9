// Where drafted tokens come from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ersd/stats.h"
#include "ersd/token.h"

namespace ersd {

enum class Source : uint8_t {
  kLookup,      // what followed the same tokens earlier in prompt and answer
  kHistory,     // the same in texts of earlier requests, and in references
  kPrediction,  // the text that the caller expects
  kGrammar,     // tokens that a grammar leaves no choice about
  kModel,       // the draft model
};

// A set of sources: a bit for each.
using Sources = uint8_t;
constexpr Sources bit(Source source) {
  return static_cast<Sources>(1U << static_cast<unsigned>(source));
}
constexpr Sources kTexts = bit(Source::kLookup) | bit(Source::kHistory) | bit(Source::kPrediction);

// Calls visit(source) for each source of a set.
template <class Visit>
void for_each_source(Sources sources, Visit visit) {
  for (size_t i = 0; i < kSourceCount; ++i)
    if (const auto source = static_cast<Source>(i); (sources & bit(source)) != 0) visit(source);
}

// Adds n to the count of each source of a set.
inline void count_sources(std::array<int64_t, kSourceCount>& counts, Sources sources, int64_t n) {
  for_each_source(sources, [&](Source source) { counts[static_cast<size_t>(source)] += n; });
}

// A token that may follow a node of a tree.
struct Candidate {
  Token token = 0;
  double hit = 0;  // the probability that it follows, if the node is accepted
  Sources sources = 0;
};

}  // namespace ersd
