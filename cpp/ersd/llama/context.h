// A model with its cache. It decodes draft trees of several sequences in one call of llama.cpp and
// keeps accepted tokens in the cache as plain decoding of each sequence would leave them.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ersd/learning/thread_governor.h"
#include "ersd/llama/context_options.h"
#include "ersd/llama/device_memory.h"
#include "ersd/llama/model.h"
#include "ersd/llama/place.h"
#include "ersd/llama/state_shape.h"
#include "ersd/model/call_widths.h"
#include "ersd/model/cell_ledger.h"
#include "ersd/model/language_model.h"

struct llama_context;
struct llama_batch;
struct llama_memory_i;

namespace ersd::llama {

class Context : public LanguageModel {
 public:
  // The model must outlive the context. interrupted() is polled while the model decodes; once it
  // returns true, decode() throws Interrupted. Throws std::invalid_argument for bad options and
  // std::runtime_error as make_context() does.
  Context(const Model& model, const ContextOptions& options, std::function<bool()> interrupted);
  ~Context() override;

  using LanguageModel::commit;
  using LanguageModel::decode;
  int32_t n_vocab() const override { return n_vocab_; }
  int32_t n_ctx() const override { return n_ctx_; }
  int32_t n_batch() const override { return n_batch_; }
  int32_t n_sequences() const override { return static_cast<int32_t>(places_.size()); }
  int32_t n_free() const override;
  int32_t max_nodes() const override { return std::min(n_batch_, n_rows_); }
  int32_t max_branches() const override;
  // Makes llama.cpp's context anew, with what the cache holds. Throws std::runtime_error if there
  // is no memory for that; the cache is as it was then. decode() and others do the same, and may
  // throw the same, when places or branches are needed that llama.cpp has no sequences for yet.
  void reserve_nodes(int32_t n) override;
  Abilities abilities() const override;
  int32_t n_read_again(int32_t sequence = 0) const override { return place(sequence).n_read_again; }
  bool must_catch_up(int32_t sequence = 0) const override;
  std::span<const Token> cached(int32_t sequence = 0) const override;
  // Throws Interrupted, and std::runtime_error if the cells do not suffice or llama.cpp fails: the
  // trees of the call's places have ended then, and what was committed before is still cached; of
  // a recurrent model, what its last checkpoint holds. Throws std::invalid_argument for parts that
  // no call can have.
  void decode(std::span<const Part> parts) override;
  std::span<const float> logits(int32_t node, int32_t sequence = 0) const override;
  void commit(std::span<const Accepted> accepted) override;
  void rollback(int32_t n, int32_t sequence = 0) override;
  // Returns false for a recurrent model and while a tree is uncommitted.
  bool share(int32_t from, int32_t to, int32_t n) override;
  int32_t occupy(int32_t n) override;

  // Empties the cache, and pads the calls to come with tokens that nobody reads. Throws
  // std::invalid_argument unless the context was made for drafts.
  void set_widths(const CallWidths& widths);

  int32_t n_threads() const { return n_threads_; }         // of an undisturbed call
  int64_t n_decoded() const { return n_decoded_; }         // tokens decoded since construction
  int32_t n_buried() const { return n_buried_; }           // cells that wait for compact()
  bool owns_attention() const { return owns_attention_; }  // see OwnOperations

  std::vector<DeviceMemory> memory_use() const { return llama::memory_use(context_.get()); }

  // The cached tokens of a place, and llama.cpp's bytes of their cells.
  struct State {
    std::vector<Token> tokens;
    std::vector<uint8_t> data;
  };
  State save_state(int32_t sequence = 0);  // drops an uncommitted tree first
  // The first call decodes a token to see how llama.cpp writes states. Throws std::invalid_argument
  // if the state is damaged, of another model, has other cache types or is longer than the context.
  // The place is empty then.
  void load_state(const State& state, int32_t sequence = 0);

 private:
  using Bytes = std::vector<uint8_t>;
  static constexpr int32_t kMaxIds = 256;   // llama.cpp's limit: llama_max_parallel_sequences()
  static constexpr int32_t kMaxChain = 16;  // drafted nodes of a tree that must be a chain
  static constexpr int32_t kNoHole = std::numeric_limits<int32_t>::max();
  // Sequences that hold buried cells. Each cell is in both: with a sliding window, llama.cpp reuses
  // a cell that is in one sequence only once it has left the window.
  static constexpr int32_t kGraveyards = 2;

  // How much of what the options allow llama.cpp's context has.
  struct Size {
    int32_t nodes = 0;     // drafted nodes of a call
    int32_t places = 0;    // the first ones have sequences
    int32_t branches = 0;  // of the trees of a call, beyond one for each tree
  };

  // context.cpp
  void choose_window(int32_t n_sequences);
  void create();
  void remake(const Size& size);
  void choose_rollback();
  void apply_lora();
  void take_padding_id();
  Place& place(int32_t sequence);
  const Place& place(int32_t sequence) const;
  llama_memory_i* memory() const;

  // context_decode.cpp
  void check_parts(std::span<const Part> parts) const;
  std::span<const Token> uncached(const Part& part) const;
  void make_room(int32_t n);
  void read_histories(std::span<const Part> parts, int32_t n_left);
  void decode_rest(std::span<const Part> parts);
  void drop_call(std::span<const Part> parts);
  void begin_batch();
  void add_history(const Place& place, std::span<const Token> tokens);
  void add_nodes(Place& place);
  void add_row(Token token, int32_t position, bool has_logits);
  void run_batch();
  void pad_batch();
  void drop_padding();
  void call_llama();
  void keep_history(int32_t sequence, std::span<const Token> tokens, int32_t first_cell);

  // context_trees.cpp
  bool has_trees() const;
  void end_tree(int32_t sequence, const DraftTree* tree, int32_t node);
  int32_t first_rejected(const Place& place) const;
  void settle();
  void settle(Place& place);
  void spread(Place& place);
  bool is_alone(int32_t sequence) const;
  void remove(const Place& place, int32_t n);
  void cut(int32_t sequence, int32_t n);
  void clear();

  // context_chains.cpp
  void save_checkpoints(std::span<const Part> parts);
  void save_bases(std::span<const Part> parts);
  void save_checkpoint(int32_t sequence, Checkpoint& checkpoint, uint32_t flags);
  bool load_checkpoint(int32_t sequence, const Checkpoint& checkpoint, uint32_t flags);
  void keep_path(int32_t sequence, const DraftTree* tree);
  void go_back(int32_t sequence);
  void return_to(int32_t sequence, int32_t n);
  void return_to_checkpoint(int32_t sequence, int32_t n);
  void shorten(int32_t sequence, int32_t n, int32_t n_read_again);
  bool ends_prompt(const Part& part) const;

  // context_places.cpp
  bool is_open(int32_t sequence) const { return sequence < size_.places; }
  void open(int32_t sequence);
  void reserve_branches(std::span<const Part> parts);
  int32_t first_branch_id(int32_t n_places) const;
  void take_branches(Place& place, int32_t n_ids);
  bool reclaim_branches(int32_t n_least);
  int32_t n_least_ids() const;
  void give_branches_back(Place& place, int32_t n_ids);
  void reset_branches();

  // context_cells.cpp
  struct Saved {
    int32_t sequence, sharer, n_shared;  // the first n_shared tokens are those of the sharer
    std::vector<Bytes> pieces;
  };
  int32_t carrier(int32_t id) const;
  void save_sequence(int32_t id, Bytes& bytes);
  bool load_sequence(int32_t id, const Bytes& bytes);
  void save_cells(int32_t id, int32_t carrier, int32_t begin, int32_t end,
                  std::vector<Bytes>& pieces);
  void restore_cells(int32_t id, int32_t carrier, const std::vector<Bytes>& pieces);
  void order_cells(int32_t id, int32_t begin, int32_t end);
  void bury(int32_t sequence, int32_t n);
  void forget_graves() { n_buried_ = 0, n_looks_ = 0, has_graves_ = false; }
  void compact();
  std::vector<Saved> save_all();
  void restore_all(const std::vector<Saved>& all);
  Saved save_place(int32_t sequence, const std::vector<Saved>& earlier);

  // context_state.cpp
  void double_cache();
  const StateShape& state_shape(int32_t sequence);

  const Model& model_;
  ContextOptions options_;
  std::function<bool()> interrupted_;
  OwnedContext context_;
  // The rows of a call and the batch that points to them, kept between calls to reuse their memory.
  std::unique_ptr<llama_batch> batch_;
  std::vector<Token> batch_token_;       // i32[n]
  std::vector<int32_t> batch_position_;  // i32[n]
  std::vector<int32_t> batch_id_;        // the llama.cpp sequences of all rows, row by row
  std::vector<int32_t> batch_n_id_;      // i32[n], how many of them each row has
  std::vector<int32_t*> batch_ids_;      // pointer[n], into batch_id_
  std::vector<int8_t> batch_logits_;     // i8[n], 1: the row has logits

  std::vector<Bytes> cell_bytes_;          // cells that order_cells() moves
  std::optional<StateShape> state_shape_;  // once a state was loaded
  bool has_loaded_ = false;                // whether one was loaded since the cache was empty

  std::vector<Place> places_;
  CellLedger ledger_;                // committed cells
  std::vector<int32_t> branch_ids_;  // llama.cpp's sequences that no place has; the next is last
  std::vector<int32_t> path_;        // accepted nodes, from the root on
  int32_t n_vocab_, n_ctx_, n_ctx_total_, n_threads_;
  int32_t n_batch_ = 0;       // tokens of a call at most
  int32_t n_rows_ = 0;        // nodes of a call at most, roots included
  int32_t n_branch_ids_ = 0;  // how many branch_ids_ there are if no place has one
  int32_t window_ = 0;        // of a model with sliding-window attention, in positions; 0: none
  int32_t n_cells_ = 0;       // cells of llama.cpp's cache
  CallWidths widths_;
  int32_t padding_id_ = -1;  // llama.cpp's sequence of padding tokens; -1: there is none
  ThreadGovernor governor_;
  bool governs_;  // only calls on the CPU wait for threads
  bool can_branch_;
  bool whole_trees_;
  bool owns_attention_;                // whether calls have the attention of ersd/attention/
  bool orders_cells_, ordered_cells_;  // what was asked for, and what is done
  Size size_;
  bool is_lazy_ = false;  // whether size_ grows with what is used
  // Whether sliding-window layers keep all cells. Otherwise what has left the window is gone, and a
  // place returns to earlier tokens by checkpoints, as recurrent models do. Trees are chains then:
  // llama.cpp reuses the cells of one sequence alone. It takes what is masked for the first token
  // of a call, so that any of the call's tokens can be dropped again. Requests read this while they
  // are submitted.
  std::atomic<bool> keeps_window_ = true;
  int32_t n_rollback_ = kMaxDraftNodes;  // see Abilities
  bool can_shift_ = false;               // whether cells can move to other positions
  int32_t n_new_cells_ = 0;              // cells numbered since all trees had ended, see Place
  int32_t first_hole_ = kNoHole;         // the lowest number of a cell that was freed since then
  bool has_graves_ = false;  // whether a graveyard holds cells, perhaps some that places hold too
  int32_t n_buried_ = 0;
  int64_t n_looks_ = 0;  // rows of calls times the cells that were buried then
  int64_t n_decoded_ = 0;
  bool has_called_ = false;  // whether the decode() under way has called llama.cpp
};

}  // namespace ersd::llama
