// A model with its cache: tree decoding through llama.cpp, and a cache in which accepted tokens lie
// as plain decoding leaves them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ersd/llama/model.h"
#include "ersd/model/language_model.h"
#include "ersd/tree/batch.h"

struct llama_context;
struct llama_batch;

namespace ersd::llama {

struct ContextOptions {
  int32_t n_ctx = 4096;     // positions; the cache has room for a draft tree beside them
  int32_t n_batch = 512;    // tokens per call when a prompt is read
  int32_t n_threads = 0;    // 0: one per core
  int32_t flash_attn = -1;  // -1: as llama.cpp finds best, 0: off, 1: on
  // Types of the cache: "f16", "bf16", "f32", "q8_0", ...; empty: bf16 keys and f16 values where
  // the cache is on the CPU, f16 elsewhere. On the CPU, llama.cpp's attention over an f16/f16 cache
  // takes another path (so gives other bits) for 1 token, for 2 to 63, and for more; over keys and
  // values of two types it takes one path for all, and speculated text equals plain text bit for
  // bit.
  std::string type_k, type_v;
  bool offload_kqv = true;
  bool exact = true;  // keep accepted tokens in the cells where plain decoding puts them; a draft
                      // does without
};

class Context : public LanguageModel {
 public:
  // The model must outlive the context. interrupted: asked now and then while decoding; true makes
  // decode() throw Interrupted. Throws std::invalid_argument for bad options, std::runtime_error
  // with llama.cpp's own words where it cannot make the context.
  Context(const Model& model, const ContextOptions& options, std::function<bool()> interrupted);
  ~Context() override;

  int32_t n_vocab() const override { return n_vocab_; }
  int32_t n_ctx() const override { return n_ctx_; }
  std::span<const Token> cached() const override { return cached_; }
  void decode(std::span<const Token> history, const DraftTree& tree,
              std::span<const int32_t> nodes) override;
  std::span<const float> logits(int32_t node) const override;
  void commit(const DraftTree& tree, int32_t node) override;
  void rollback(int32_t n) override;

  int32_t n_threads() const;
  int64_t n_decoded() const { return n_decoded_; }  // tokens that went through the model, ever

  // The cached tokens and llama.cpp's bytes of what it keeps of them.
  struct State {
    std::vector<Token> tokens;
    std::vector<uint8_t> data;
  };
  State save();  // forgets an uncommitted tree
  // Throws std::invalid_argument for a state of another model or of another kind of cache, or one
  // longer than the context; the cache is empty then.
  void load(const State& state);

 private:
  void run(const Batch& batch, bool with_logits);
  void read(std::span<const Token> tokens);
  void share_prefix(int32_t n_sequences);
  void line_up(int32_t sequence, int32_t begin, int32_t end);

  struct Free {
    void operator()(llama_context* context) const;
  };
  std::function<bool()> interrupted_;
  std::unique_ptr<llama_context, Free> context_;
  std::unique_ptr<llama_batch> batch_;
  std::vector<Token> tokens_;          // what llama.cpp wants of a batch: tokens it knows,
  std::vector<int8_t> outputs_;        // whether a row has logits,
  std::vector<int32_t> counts_;        // how many sequences it is in,
  std::vector<int32_t*> sequence_of_;  // and where they stand
  BatchLayout layout_;
  std::vector<Token> cached_;  // committed tokens, by position
  std::vector<int32_t> path_;
  std::vector<uint8_t> cells_;  // cache cells on their way to their place
  int32_t n_vocab_, n_ctx_, n_batch_, max_sequences_;
  int32_t n_shared_ = 1;  // sequences 0 to n_shared_ - 1 hold all positions below synced_
  int32_t synced_ = 0;
  int32_t n_tree_ = 0;  // nodes decoded since the last commit or rollback
  bool ordered_cells_;  // whether commit() puts accepted tokens in order, see line_up()
  int64_t n_decoded_ = 0;
};

}  // namespace ersd::llama
