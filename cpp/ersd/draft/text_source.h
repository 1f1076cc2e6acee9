// One text to draft from: what comes next in it is a guess of what comes next in the answer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/draft/source.h"
#include "ersd/draft/suffix_automaton.h"
#include "ersd/learning/hit_rates.h"
#include "ersd/race/noise.h"

namespace ersd {

// Why a token is proposed.
enum class Form : uint8_t {
  kFollows,   // it followed the longest ending of the answer that occurs in the text
  kReturns,   // the answer departed from the text, and has just come back to it
  kShorter,   // it followed a shorter ending
  kResumes,   // the answer departed from the text, and goes on with the token before which it did
  kReplaces,  // the answer departed from the text, and has replaced as many tokens as it brought
  kSkips,     // the answer departed from the text, and its last token occurs there a little later
};

class TextSource {
 public:
  // Where an answer stands in the text.
  struct Place {
    SuffixAutomaton::Match match;  // the answer's longest ending that occurs in the text
    int32_t cursor = -1;           // the place in the text that the answer follows; -1 for none
    int32_t n_agreed = 0;          // tokens up to the cursor that answer and text have in common
    int32_t n_departed = 0;        // tokens of the answer since it departed from the text there
    int32_t skip = -1;             // the place after the last of these tokens; -1 if it is not near
    int32_t n_before = 0;          // n_agreed when the answer departed last
    Token last = 0;                // the answer's last token
  };

  explicit TextSource(Source source, std::span<const Token> tokens = {}) : source_(source) {
    for (const Token token : tokens) append(token);
  }

  Source source() const { return source_; }
  int32_t size() const { return automaton_.size(); }
  const SuffixAutomaton& automaton() const { return automaton_; }

  // The text grows.
  void append(Token token) { automaton_.append(token); }

  // The place of an answer that is expected to begin as the text does, or of any other one.
  Place start() const {
    return source_ == Source::kPrediction && size() > 0
               ? Place{.match = {}, .cursor = 0, .n_agreed = kExpected}
               : Place{};
  }

  // The place after one more token of the answer.
  Place follow(const Place& place, Token token) const;

  // Writes what the text proposes at a place, the likeliest first, each token once.
  // clock: the one that draft and target share at this position. If given, continuations race by
  // how often they occurred, because the target's token is the winner of the same race.
  void propose(const Place& place, const Clock* clock, std::vector<HitRates::Proposal>& out);

 private:
  static constexpr int32_t kExpected = 8;  // an expected text counts as if so many tokens agreed

  void propose_after(SuffixAutomaton::Match match, Form form, const Place& place,
                     const Clock* clock, std::vector<HitRates::Proposal>& out);
  int32_t find_near(int32_t place, Token token) const;
  bool has(int32_t place) const { return place >= 0 && place < size(); }
  void add(Token token, Form form, int32_t length, int32_t share,
           std::vector<HitRates::Proposal>& out) const;

  Source source_;
  SuffixAutomaton automaton_;
  std::vector<SuffixAutomaton::Continuation> continuations_;
  std::vector<double> weights_;
};

}  // namespace ersd
