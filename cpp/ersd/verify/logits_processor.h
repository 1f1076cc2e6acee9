// Logits processors and token filters: what changes the logits of a position, given the tokens
// before it, and the order in which a generation applies them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ersd/tree/draft_tree.h"

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

// Says which tokens may come next, for example by a grammar. It must be a pure function of history
// and token. One thread at a time.
class TokenFilter {
 public:
  virtual ~TokenFilter() = default;

  // Sets allowed[i] to 1 if tokens[i] may follow the history, else to 0; u8[tokens.size()]. A
  // history never holds tokens that the filter refused.
  virtual void filter(std::span<const Token> history, std::span<const Token> tokens,
                      std::span<uint8_t> allowed) = 0;

  // Tells the filter that every later history begins with this one.
  virtual void commit(std::span<const Token> /*history*/) {}

  // Tells the filter that a context shift removed n committed tokens from all later histories.
  virtual void shift(size_t /*n*/) {}
};

// The filter at one position: sets allowed[i] to 1 if tokens[i] may come, else to 0. If it is
// empty, all tokens may come.
using Allowed = std::function<void(std::span<const Token> tokens, std::span<uint8_t> allowed)>;

// The logits processors of a generation, in the order in which they are applied, and its filter,
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
  void restrict_to(std::shared_ptr<TokenFilter> filter) { filter_ = std::move(filter); }

  bool processes_drafts() const { return !processors_.empty() || filter_; }

  // Returns the target's processed logits at a node; f32[n_vocab]. Without processors they are the
  // given row, else a copy that is valid until the next call.
  // committed: the tokens before the tree's root, i32[n].
  std::span<const float> process_target(std::span<const Token> committed, const DraftTree& tree,
                                        int32_t node, std::span<const float> logits);

  // Processes the draft's logits at a node in place.
  void process_draft(std::span<const Token> committed, const DraftTree& tree, int32_t node,
                     std::span<float> logits);

  // The filter at a node. It must not be used after the next call of any member function.
  Allowed allowed(std::span<const Token> committed, const DraftTree& tree, int32_t node);

  void commit(std::span<const Token> history) {
    if (filter_) filter_->commit(history);
  }
  void shift(size_t n) {
    if (filter_) filter_->shift(n);
    n_committed_ = 0;
  }

 private:
  std::span<const Token> write_history(std::span<const Token> committed, const DraftTree& tree,
                                       int32_t node);

  std::vector<std::shared_ptr<LogitsProcessor>> target_processors_, processors_;
  std::shared_ptr<TokenFilter> filter_;
  std::vector<int32_t> path_;
  std::vector<Token> history_;  // the committed tokens and the path to the last node
  size_t n_committed_ = 0;      // how many of history_ are committed and need no new copy
  std::vector<float> row_;      // f32[n_vocab], the target's processed logits
};

}  // namespace ersd
