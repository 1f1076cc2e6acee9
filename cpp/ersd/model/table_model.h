// A language model for tests. Its logits are rows of a table; a hash of all tokens so far chooses
// the row.
#pragma once

#include <vector>

#include "ersd/model/language_model.h"
#include "ersd/tree/batch.h"

namespace ersd {

// It uses the same batch layout as a real model. As in llama.cpp, all places share one list of
// cells, a cell belongs to sequences, and a node sees the cells of its sequence. So a wrong layout,
// commit, rollback or share gives wrong tokens. It counts what it decodes.
class TableModel : public LanguageModel {
 public:
  // table: f32[n_rows, n_vocab], row-major. Throws std::invalid_argument if it is empty or its size
  // is no multiple of n_vocab. n_ctx_total: committed tokens of all places; 0: n_ctx * n_sequences.
  TableModel(std::vector<float> table, int32_t n_vocab, int32_t n_ctx, int32_t n_sequences = 1,
             int32_t n_ctx_total = 0);

  using LanguageModel::commit;
  using LanguageModel::decode;
  int32_t n_vocab() const override { return n_vocab_; }
  int32_t n_ctx() const override { return n_ctx_; }
  int32_t n_sequences() const override { return static_cast<int32_t>(places_.size()); }
  int32_t n_free() const override;
  std::span<const Token> cached(int32_t sequence = 0) const override;
  // Throws std::invalid_argument if a place has two parts or a history that is shorter than its
  // cache, and std::runtime_error if the cells do not suffice.
  void decode(std::span<const Part> parts) override;
  std::span<const float> logits(int32_t node, int32_t sequence = 0) const override;
  void commit(std::span<const Accepted> accepted) override;
  void rollback(int32_t n, int32_t sequence = 0) override;
  bool share(int32_t from, int32_t to, int32_t n) override;

  // The logits that follow these tokens; f32[n_vocab].
  std::span<const float> row(std::span<const Token> tokens) const;

  int64_t n_decoded() const { return n_decoded_; }  // tokens of all calls, history included
  std::span<const Token> last_call() const { return last_call_; }  // the tokens of the last one
  int64_t n_calls() const { return n_calls_; }

 private:
  // One token in the cache.
  struct Cell {
    Token token;
    int32_t position;
    std::vector<int32_t> sequences;
    bool is_in(int32_t sequence) const;
  };
  struct Place {
    std::vector<Token> cached;
    BatchLayout layout;
    std::vector<std::span<const float>> rows;  // by tree node, of the last call
  };

  // The number of a sequence of a place's layout in the list of all cells. The place itself, whose
  // layout calls it 0, has the number of the place.
  int32_t global(int32_t place, int32_t sequence) const { return place + sequence * n_sequences(); }
  bool belongs_to(int32_t sequence, int32_t place) const {
    return sequence % n_sequences() == place;
  }
  void check_parts(std::span<const Part> parts) const;
  void add_cells(const Part& part, const Batch& batch);
  void read_rows(const Part& part);
  void keep(int32_t place, int32_t sequence, int32_t n_committed, int32_t end);
  std::vector<Token> visible(int32_t sequence, int32_t position) const;

  std::vector<float> table_;
  int32_t n_vocab_, n_ctx_, n_ctx_total_;
  std::vector<Place> places_;
  std::vector<Cell> cells_;  // of all places, in the order of decoding
  std::vector<Token> last_call_;
  int64_t n_decoded_ = 0, n_calls_ = 0;
};

}  // namespace ersd
