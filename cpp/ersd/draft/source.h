// Where drafted tokens come from.
#pragma once

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

// A token that may follow a node of a tree.
struct Candidate {
  Token token = 0;
  double hit = 0;  // the probability that it follows, if the node is accepted
  Sources sources = 0;
};

}  // namespace ersd
