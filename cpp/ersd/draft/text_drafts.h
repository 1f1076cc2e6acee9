// What texts propose along the paths of one sequence's trees.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ersd/draft/text_source.h"

namespace ersd {

class TextDrafts {
 public:
  using Texts = std::vector<std::shared_ptr<TextSource>>;

  // Begins a sequence with these tokens. It drafts from them if `looks_up`, and from other texts,
  // which may grow meanwhile.
  void begin(std::span<const Token> tokens, bool looks_up, Texts others);

  bool empty() const { return texts_.empty(); }

  // The sequence grows.
  void append(std::span<const Token> tokens);

  // Begins another tree, which has a root alone.
  void reset();

  // Adds the next node of the tree: a child of `parent`.
  void add(int32_t parent, Token token);

  // Drops the nodes from n on.
  void truncate(int32_t n);

  // Writes the candidates for a node's children, each token once; not more than all of probability.
  // clock: see TextSource::propose().
  void propose(int32_t node, const Clock* clock, const HitRates& rates,
               std::vector<Candidate>& out);

  // Adds a candidate that a grammar proposes after a node and its token.
  // n_allowed: how many tokens the grammar allows; place: of the token among them.
  void propose_by_grammar(int32_t node, Token before, Token token, int32_t n_allowed, size_t place,
                          const HitRates& rates, std::vector<Candidate>& out);

  // The proposals that were made after a node, for tests.
  std::vector<HitRates::Proposal> made(int32_t node) const;

  // Learns from verified positions, at which candidates were proposed: which tokens came after the
  // accepted nodes.
  void learn(std::span<const int32_t> path, std::span<const Token> emitted, HitRates& rates);

 private:
  struct Text {
    std::shared_ptr<TextSource> source;
    TextSource::Place root;  // of the sequence
    double luck = 0.5;       // a fading mean of how often its first proposal was right
  };
  // A proposal that was made for the tree.
  struct Made {
    int32_t node, text;  // text -1: the grammar
    bool is_first;
    HitRates::Proposal proposal;
  };

  void append_own(Token token);
  static void merge(std::vector<Candidate>& out, Token token, double hit, Source source);

  std::shared_ptr<TextSource> own_;  // the tokens of the sequence; null if they are not looked up
  std::vector<Text> texts_;
  std::vector<TextSource::Place> places_;  // by node and text
  std::vector<Made> made_;
  std::vector<HitRates::Proposal> proposals_;
};

}  // namespace ersd
