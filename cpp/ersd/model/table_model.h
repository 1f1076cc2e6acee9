// A language model for tests. Its logits are rows of a table; a hash of all tokens so far chooses
// the row.
#pragma once

#include <vector>

#include "ersd/model/language_model.h"
#include "ersd/tree/batch.h"

namespace ersd {

// It uses the same batch layout as a real model, and a node sees the cells of its sequence. So a
// wrong layout, commit or rollback gives wrong tokens. It counts what it decodes.
class TableModel : public LanguageModel {
 public:
  // table: f32[n_rows, n_vocab], row-major. Throws std::invalid_argument if it is empty or its size
  // is no multiple of n_vocab.
  TableModel(std::vector<float> table, int32_t n_vocab, int32_t n_ctx);

  int32_t n_vocab() const override { return n_vocab_; }
  int32_t n_ctx() const override { return n_ctx_; }
  std::span<const Token> cached() const override { return cached_; }
  void decode(std::span<const Token> history, const DraftTree& tree,
              std::span<const int32_t> nodes) override;
  std::span<const float> logits(int32_t node) const override;
  void commit(const DraftTree& tree, int32_t node) override;
  void rollback(int32_t n) override;

  // The logits that follow these tokens; f32[n_vocab].
  std::span<const float> row(std::span<const Token> tokens) const;

  int64_t n_decoded() const { return n_decoded_; }  // tokens of all calls, history included
  int64_t n_calls() const { return n_calls_; }

 private:
  // One token in the cache.
  struct Cell {
    Token token;
    int32_t position;
    std::vector<int32_t> sequences;
    bool is_in(int32_t sequence) const;
  };
  void share_prefix(int32_t n_sequences);
  std::vector<Token> visible(int32_t sequence, int32_t position) const;

  std::vector<float> table_;
  int32_t n_vocab_, n_ctx_;
  std::vector<Token> cached_;
  std::vector<Cell> cells_;
  std::vector<std::span<const float>> rows_;  // by tree node, of the last call
  BatchLayout layout_;
  int64_t n_decoded_ = 0, n_calls_ = 0;
};

}  // namespace ersd
