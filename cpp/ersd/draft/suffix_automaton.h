// A suffix automaton: all substrings of a text that grows, with what followed each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "ersd/token.h"

namespace ersd {

// Appending a token takes amortised constant time (Blumer et al., 1985, "The smallest automaton
// recognizing the subwords of a text"). It takes 36 to 64 bytes a token.
//
// A state stands for the substrings that end at the same places of the text. The states of the
// text's beginnings hold the token that follows there, so their commonest edge costs no memory.
class SuffixAutomaton {
 public:
  // A substring of the text: one of those of a state. The default is the empty one. It stays right
  // while the text grows.
  struct Match {
    int32_t state = 0, length = 0;
  };

  // A token that followed a substring. How often: an occurrence counts at the longest substring
  // that had occurred before, and not at its shorter endings.
  struct Continuation {
    Token token;
    int32_t count;
  };

  SuffixAutomaton() { beginnings_.push_back({}); }

  void append(Token token);

  // The longest ending of the text that occurred before.
  Match repeated() const { return size() == 0 ? Match{} : shorter({size(), size()}); }

  // The longest ending of a substring and one more token that occurs in the text.
  Match follow(Match match, Token token) const;

  // The longest ending of a substring that is shorter and ends at more places; the empty one of the
  // empty one.
  Match shorter(Match match) const {
    const int32_t state = state_of(match);
    if (state == kRoot) return {};
    return {link_of(state), length_of(link_of(state))};
  }

  // Writes what followed a substring, at most `most` tokens, those first that followed it last for
  // the first time.
  void continuations(Match match, size_t most, std::vector<Continuation>& out) const;

  // The place of the token after some occurrence of a substring.
  int32_t end(Match match) const {
    const int32_t state = state_of(match);
    return state >= 0 ? state : branching(state).end;
  }

  int32_t size() const { return static_cast<int32_t>(beginnings_.size()) - 1; }
  Token token(int32_t place) const { return beginnings_[static_cast<size_t>(place)].next; }

  size_t n_bytes() const;

 private:
  static constexpr int32_t kNone = -1;  // no edge
  static constexpr int32_t kRoot = 0;   // the empty beginning
  static constexpr int32_t kNoState = INT32_MIN;
  static constexpr int32_t kListed = 16;  // states with more edges are in the index

  // State i >= 0 is the beginning of i tokens. Its first edge leads to the next beginning.
  struct Beginning {
    Token next = -1;          // the token of that edge; -1 for the whole text
    int32_t link = kNoState;  // the state of the longest ending that ends at more places
    int32_t edges = kNone;    // its further edges; -2 - edge if they are in the index
    int32_t count = 0;        // of the first edge
  };
  // State -1 - i is the i-th of the other states. All of its edges are further edges.
  struct Branching {
    int32_t length, link, edges, end;
  };
  struct Edge {
    Token token;
    int32_t to, next, count;  // next: of the same state
  };

  const Branching& branching(int32_t s) const { return branchings_[static_cast<size_t>(-1 - s)]; }
  int32_t link_of(int32_t s) const {
    return s >= 0 ? beginnings_[static_cast<size_t>(s)].link : branching(s).link;
  }
  int32_t length_of(int32_t s) const { return s >= 0 ? s : branching(s).length; }
  // The state of a substring, which may have been split since the match was found.
  int32_t state_of(Match match) const {
    while (match.state != kRoot && length_of(link_of(match.state)) >= match.length)
      match.state = link_of(match.state);
    return match.state;
  }
  int32_t& edges_of(int32_t s) {
    return s >= 0 ? beginnings_[static_cast<size_t>(s)].edges
                  : branchings_[static_cast<size_t>(-1 - s)].edges;
  }
  int32_t first_edge(int32_t s, bool& is_indexed) const;
  bool is_first(int32_t s, Token token) const {
    return s >= 0 && beginnings_[static_cast<size_t>(s)].next == token;
  }
  int32_t find(int32_t state, Token token) const;
  int32_t target(int32_t state, Token token) const;
  void add_edge(int32_t state, Token token, int32_t to, int32_t count);
  int32_t split(int32_t from, int32_t to);
  void count(int32_t state, Token token);
  size_t slot(int32_t state, Token token) const;
  void index_edge(int32_t state, int32_t edge);
  void grow_index();

  std::deque<Beginning> beginnings_;
  std::deque<Branching> branchings_;
  std::deque<Edge> edges_;
  std::vector<Edge> copied_;  // by split()
  // Edges of states with many, by a hash of state and token; -1 for free places. Linear probing.
  struct Indexed {
    int32_t state = 0, edge = kNone;
  };
  std::vector<Indexed> index_;
  size_t n_indexed_ = 0;
};

}  // namespace ersd
