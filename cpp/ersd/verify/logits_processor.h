// Logits processors: what changes the logits of a position, given the tokens before it, and the
// order in which a generation applies them and its grammar.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ersd/tree/draft_tree.h"
#include "ersd/verify/grammar.h"

namespace ersd {

// Changes a row of logits in place. It must be a pure function of history and row. Then a row of a
// tree, whose history is the path to its node, is processed as in plain decoding. One thread at a
// time.
class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;

  // history: all tokens before the position, i32[n].
  // logits: f32[n_vocab]; a draft's row may be shorter.
  virtual void process(std::span<const Token> history, std::span<float> logits) = 0;
};

// The logits processors of a generation, in the order in which they are applied, and its grammar,
// which comes after them.
class LogitsProcessorList {
 public:
  void add(std::shared_ptr<LogitsProcessor> processor) {
    processors_.push_back(std::move(processor));
  }
  // Adds a processor that comes before those of add() and does not see the draft's rows. It is
  // called once for each verified position, in the order of the text.
  void add_for_target(std::shared_ptr<LogitsProcessor> processor) {
    target_processors_.push_back(std::move(processor));
  }
  // Excludes all tokens that a grammar does not allow.
  void restrict_to(GrammarMasks masks) { masks_ = std::move(masks); }

  bool has_grammar() const { return masks_.has_value(); }

  // The tokens that the grammar allows after a node. Valid until the next commit(). There must be a
  // grammar.
  TokenMask mask(std::span<const Token> committed, const DraftTree& tree, int32_t node) {
    return masks_->after(write_history(committed, tree, node));
  }
  int32_t length(Token token) const { return masks_->length(token); }

  bool processes_drafts() const { return !processors_.empty() || masks_; }

  // Returns the target's processed logits at a node; f32[n_vocab]. Without processors and grammar
  // they are the given row, else a copy that is valid until the next call.
  // committed: the tokens before the tree's root, i32[n].
  // Throws std::runtime_error if the grammar leaves no token that has a probability.
  std::span<const float> process_target(std::span<const Token> committed, const DraftTree& tree,
                                        int32_t node, std::span<const float> logits);

  // Processes the draft's logits at a node in place. Throws as process_target() does.
  void process_draft(std::span<const Token> committed, const DraftTree& tree, int32_t node,
                     std::span<float> logits);

  void commit(std::span<const Token> history) {
    if (masks_) masks_->commit(history);
  }
  void shift(size_t n) {
    if (masks_) masks_->shift(n);
    n_committed_ = 0;
  }

 private:
  std::span<const Token> write_history(std::span<const Token> committed, const DraftTree& tree,
                                       int32_t node);

  std::vector<std::shared_ptr<LogitsProcessor>> target_processors_, processors_;
  std::optional<GrammarMasks> masks_;
  std::vector<int32_t> path_;
  std::vector<Token> history_;  // the committed tokens and the path to the last node
  size_t n_committed_ = 0;      // how many of history_ are committed and need no new copy
  std::vector<float> row_;      // f32[n_vocab], the target's processed logits
  MaskedRow masked_row_;        // the same under the grammar's mask
};

}  // namespace ersd
