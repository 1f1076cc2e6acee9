// What shapes the logits of a position by the tokens before it, before its race: interfaces, and
// the order in which a generation applies them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ersd/tree/draft_tree.h"

namespace ersd {

// Changes a row in place. A pure function of history and row, so that a row of a tree, whose
// history is the path to its node, is shaped as plain decoding shapes it. One thread at a time.
class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;

  // history: all tokens before the position, i32[n]; logits: f32[n_vocab], for a draft perhaps
  // fewer.
  virtual void process(std::span<const Token> history, std::span<float> logits) = 0;
};

// Says which tokens may come next. A pure function of history and token. One thread at a time.
class TokenFilter {
 public:
  virtual ~TokenFilter() = default;

  // allowed[i]: 1 where tokens[i] may follow the history, else 0; u8[tokens.size()]. Tokens that it
  // refused never stand in a history.
  virtual void filter(std::span<const Token> history, std::span<const Token> tokens,
                      std::span<uint8_t> allowed) = 0;

  // Every history to come begins with this one.
  virtual void commit(std::span<const Token> /*history*/) {}

  // Histories to come lack n tokens of what was committed.
  virtual void shift(size_t /*n*/) {}
};

// A filter at one position; empty where all tokens may come.
using Allowed = std::function<void(std::span<const Token> tokens, std::span<uint8_t> allowed)>;

// The processors of a generation, in order, then its filter.
class LogitsProcessorList {
 public:
  void add(std::shared_ptr<LogitsProcessor> processor) {
    processors_.push_back(std::move(processor));
  }
  // Not for draft rows: it is called once for each position of the text that is verified, in order,
  // and before all others.
  void add_for_target(std::shared_ptr<LogitsProcessor> processor) {
    target_processors_.push_back(std::move(processor));
  }
  void restrict_to(std::shared_ptr<TokenFilter> filter) { filter_ = std::move(filter); }

  bool processes_drafts() const { return !processors_.empty() || filter_; }

  // The target's logits at a node, shaped by the path to it: the row itself where nothing shapes
  // it, else a copy, valid until the next call. committed: the tokens before the tree's root.
  std::span<const float> target(std::span<const Token> committed, const DraftTree& tree,
                                int32_t node, std::span<const float> logits);

  // The same for a row of the draft, in place.
  void draft(std::span<const Token> committed, const DraftTree& tree, int32_t node,
             std::span<float> logits);

  // Which tokens may follow a node. Must not outlive the next call of any member.
  Allowed allowed(std::span<const Token> committed, const DraftTree& tree, int32_t node);

  void commit(std::span<const Token> history) {
    if (filter_) filter_->commit(history);
  }
  void shift(size_t n) {
    if (filter_) filter_->shift(n);
    n_committed_ = 0;
  }

 private:
  std::span<const Token> history(std::span<const Token> committed, const DraftTree& tree,
                                 int32_t node);

  std::vector<std::shared_ptr<LogitsProcessor>> target_processors_, processors_;
  std::shared_ptr<TokenFilter> filter_;
  std::vector<int32_t> path_;
  std::vector<Token>
      history_;  // of the last node asked about; the first n_committed_ stay for the next
  size_t n_committed_ = 0;
  std::vector<float> row_;
};

}  // namespace ersd
