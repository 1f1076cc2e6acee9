// A model with its cache. It decodes draft trees through llama.cpp and keeps accepted tokens in the
// cache as plain decoding would leave them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ersd/learning/thread_governor.h"
#include "ersd/llama/model.h"
#include "ersd/model/language_model.h"
#include "ersd/tree/batch.h"

struct llama_context;
struct llama_batch;

namespace ersd::llama {

// The names are those of llama.cpp, except exact, ordered_cells and max_nodes.
struct ContextOptions {
  int32_t n_ctx = 4096;     // positions; the cache has extra room for a draft tree
  int32_t n_batch = 512;    // tokens per call while a prompt is read
  int32_t n_threads = 0;    // 0: default_n_threads()
  int32_t flash_attn = -1;  // -1: llama.cpp decides, 0: off, 1: on
  // Types of the cache: "f16", "bf16", "f32", "q8_0", ... Empty means the types that `exact` asks
  // for, see exact_types().
  std::string type_k, type_v;
  bool offload_kqv = true;
  // Whether a token's logits must not depend on what else is in its batch, as far as the types of
  // the cache decide that.
  bool exact = false;
  // Whether accepted tokens stay in the cells that plain decoding would give them, see
  // Context::order_cells(). A draft model does not need this.
  bool ordered_cells = true;
  int32_t max_nodes = kMaxDraftNodes;  // drafted nodes of a call at most; 0: plain decoding alone
};

class Context : public LanguageModel {
 public:
  // The model must outlive the context. interrupted() is polled while the model decodes; once it
  // returns true, decode() throws Interrupted. Throws std::invalid_argument for bad options and
  // std::runtime_error with llama.cpp's own words if llama.cpp cannot create the context.
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
  int32_t occupy(int32_t n) override;

  int32_t n_threads() const { return n_threads_; }  // of an undisturbed call
  int64_t n_decoded() const { return n_decoded_; }  // tokens decoded since construction

  // The cached tokens, and llama.cpp's bytes of their cells.
  struct State {
    std::vector<Token> tokens;
    std::vector<uint8_t> data;
  };
  State save_state();  // drops an uncommitted tree first
  // Throws std::invalid_argument if the state is of another model, has other cache types or is
  // longer than the context. The cache is empty then.
  void load_state(const State& state);

 private:
  void create(const Model& model, const ContextOptions& options);
  void apply_lora(const Model& model);
  void decode_history(std::span<const Token> tokens);
  void decode_batch(const Batch& batch, bool with_logits);
  void share_prefix(int32_t n_sequences);
  int32_t n_path_in_order() const;
  void order_cells(int32_t sequence, int32_t begin, int32_t end);
  void forget_tree();
  void run_batch();
  void double_cache();

  struct Free {
    void operator()(llama_context* context) const;
  };
  std::function<bool()> interrupted_;
  std::unique_ptr<llama_context, Free> context_;
  // The batch and the arrays that it points to, kept between calls to reuse their memory.
  std::unique_ptr<llama_batch> batch_;
  std::vector<Token> batch_token_;      // i32[n]
  std::vector<int8_t> batch_logits_;    // i8[n], 1: the row has logits
  std::vector<int32_t> batch_n_seq_;    // i32[n], sequences of each row
  std::vector<int32_t*> batch_seq_id_;  // pointer[n], into Batch::sequence
  BatchLayout layout_;
  std::vector<Token> cached_;        // committed tokens, by position
  std::vector<int32_t> path_;        // accepted nodes, from the root on
  std::vector<uint8_t> cell_bytes_;  // cells that order_cells() moves
  int32_t n_vocab_, n_ctx_, n_threads_, max_nodes_, n_batch_, max_sequences_;
  ThreadGovernor governor_;
  bool governs_;  // only calls on the CPU wait for threads
  // The sequences 0 to n_prefix_sequences_ - 1 all hold the positions 0 to n_prefix_ - 1.
  int32_t n_prefix_sequences_ = 1;
  int32_t n_prefix_ = 0;
  int32_t n_tree_ = 0;  // nodes decoded since the last commit or rollback
  bool ordered_cells_;
  bool can_shift_ = false;  // whether cells can move to other positions
  int64_t n_decoded_ = 0;
};

}  // namespace ersd::llama
