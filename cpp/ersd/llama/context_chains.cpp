// Drafts on recurrent and hybrid models, which keep one state for each sequence: trees are chains,
// and a state that has taken in rejected tokens must go back.
#include <llama.h>

#include <algorithm>

#include "ersd/llama/backend.h"
#include "ersd/llama/context.h"
#include "ersd/llama/context_params.h"

namespace ersd::llama {
namespace {

// A place that must read more tokens again reads them in a call without drafts, which is sure to
// take its state forward.
constexpr int32_t kMostReadAgain = 4;

// Prompts of so many new tokens end with a checkpoint. Shorter ones are as well read again.
constexpr int32_t kCheckpointTokens = 32;
constexpr size_t kMostCheckpoints = 4;  // of each place

// llama.cpp keeps n_rs_seq states for each sequence, from which it can take back a call's last
// rows. They may be as large as this share of the weights, or as this many bytes.
constexpr double kStatesShare = 0.5;
constexpr double kStatesBytes = 256e6;
constexpr int32_t kLeastRollback = 3;  // fewer states are not worth their memory

constexpr llama_state_seq_flags kHostState = LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY;
// There is one such state for each sequence; it stays in the memory of the device.
constexpr llama_state_seq_flags kDeviceState = kHostState | LLAMA_STATE_SEQ_FLAGS_ON_DEVICE;

// Bytes of one recurrent state if llama.cpp can take back rows of calls of this model, else 0. Only
// a context knows whether it can, and only one that has decoded a token knows the size.
size_t bytes_of_rollback(const Model& model, llama_context_params params) {
  params.n_ctx = 256;
  params.n_batch = params.n_ubatch = 4;
  params.n_seq_max = params.n_rs_seq = 1;
  params.n_outputs_max = 1;
  const OwnedContext context(llama_init_from_model(model.get(), params));
  if (!context || llama_n_rs_seq(context.get()) == 0) return 0;
  Token token = 0;
  if (llama_decode(context.get(), llama_batch_get_one(&token, 1)) != 0) return 0;
  return llama_state_seq_get_size_ext(context.get(), 0, kHostState);
}

}  // namespace

Abilities Context::abilities() const {
  if (!can_branch_) return {false, n_rollback_, kMaxChain};
  return {keeps_window_, kMaxDraftNodes, kMaxDraftNodes};
}

bool Context::must_catch_up(int32_t sequence) const {
  return whole_trees_ && place(sequence).n_read_again > kMostReadAgain;
}

// Chooses how many states llama.cpp keeps for each sequence. A draft model decodes its chains token
// by token, and llama.cpp takes back rows of the last call alone.
void Context::choose_rollback() {
  if (can_branch_) return;
  n_rollback_ = 0;
  if (size_.nodes == 0 || !whole_trees_) return;
  llama_context_params params = context_params(model_, options_);
  params.n_threads = params.n_threads_batch = n_threads_;
  const auto bytes = static_cast<double>(bytes_of_rollback(model_, params));
  if (bytes == 0) return;
  const double most = std::max(kStatesBytes, kStatesShare * static_cast<double>(model_.size()));
  const double n_states = most / (bytes * n_sequences());
  n_rollback_ =
      static_cast<int32_t>(std::min<double>(n_states - 1, std::min(size_.nodes, kMaxChain)));
  if (n_rollback_ < std::min(size_.nodes, kLeastRollback)) n_rollback_ = 0;
}

// Whether a part reads the last of many tokens before its tree begins.
bool Context::ends_prompt(const Part& part) const {
  const Place& p = place(part.sequence);
  const auto n_history = static_cast<int32_t>(part.history.size());
  return (!can_branch_ || !keeps_window_) && !part.nodes.empty() && n_history > p.n_cached() &&
         p.n_new + n_history - p.n_cached() >= kCheckpointTokens;
}

// Before the first call of a tree: keeps the state at the end of a prompt, so that other answers to
// it can begin there.
void Context::save_checkpoints(std::span<const Part> parts) {
  for (const Part& part : parts) {
    Place& p = place(part.sequence);
    if (part.nodes.empty() || p.n_tree > 0) continue;
    const bool is_lost = !can_branch_ || !keeps_window_;
    if (is_lost && p.n_new >= kCheckpointTokens && p.n_read_again == 0) {
      if (p.checkpoints.size() == kMostCheckpoints) p.checkpoints.erase(p.checkpoints.begin());
      save_checkpoint(part.sequence, p.checkpoints.emplace_back(), kHostState);
    }
    p.n_new = 0;
  }
}

// Before a call whose tokens may be rejected, unless the call can be taken back: keeps the states
// to return to. The root of a tree is never rejected, the nodes of its later calls may be.
void Context::save_bases(std::span<const Part> parts) {
  for (const Part& part : parts) {
    Place& p = place(part.sequence);
    const auto n_uncertain = static_cast<int32_t>(part.nodes.size()) - (p.n_tree == 0 ? 1 : 0);
    const bool is_kept = p.base.n >= 0 || (p.n_tree == 0 && n_uncertain <= n_rollback_);
    if (n_uncertain > 0 && !is_kept) save_checkpoint(part.sequence, p.base, kDeviceState);
  }
}

void Context::save_checkpoint(int32_t sequence, Checkpoint& checkpoint, uint32_t flags) {
  const Place& p = place(sequence);
  checkpoint.n = p.n_held() + p.n_tree;
  checkpoint.data.resize(llama_state_seq_get_size_ext(context_.get(), sequence, flags));
  const size_t n = llama_state_seq_get_data_ext(context_.get(), checkpoint.data.data(),
                                                checkpoint.data.size(), sequence, flags);
  if (n == 0) checkpoint.n = -1;
}

// Puts a state back, and drops the keys and values that follow it. Returns whether llama.cpp could
// do it.
bool Context::load_checkpoint(int32_t sequence, const Checkpoint& checkpoint, uint32_t flags) {
  return checkpoint.n > 0 &&
         llama_state_seq_set_data_ext(context_.get(), checkpoint.data.data(),
                                      checkpoint.data.size(), sequence, flags) > 0 &&
         llama_memory_seq_rm(memory(), sequence, checkpoint.n, -1);
}

// Ends a place's tree: keeps the nodes of path_.
void Context::keep_path(int32_t sequence, const DraftTree* tree) {
  Place& p = place(sequence);
  const auto n_kept = static_cast<int32_t>(path_.size());
  const int32_t n_rejected = p.n_tree - n_kept;
  for (const int32_t kept : path_) p.cached.push_back(tree->token(kept));
  ledger_.append(sequence, n_kept);
  p.n_tree = 0;
  p.node_cell.clear();
  p.layout.reset();
  p.n_shared = p.n_cached();
  // llama.cpp can take back rows of the last call alone, and one row must remain of them.
  const bool is_taken_back = n_rejected <= n_rollback_ && n_rejected < p.n_last_rows;
  if (n_rejected > 0 &&
      !(is_taken_back && llama_memory_seq_rm(memory(), sequence, p.n_cached(), -1)))
    go_back(sequence);
  p.base.n = -1;
}

// Brings a place, whose state has taken in other tokens than it should, back to the last state that
// is known.
void Context::go_back(int32_t sequence) {
  Place& p = place(sequence);
  if (p.base.n <= p.n_cached() && load_checkpoint(sequence, p.base, kDeviceState))
    p.n_read_again = p.n_cached() - p.base.n;
  else
    return_to_checkpoint(sequence, p.n_cached());
  p.base.n = -1;
}

// Keeps the first n committed tokens, or fewer if no state after them is known.
void Context::return_to(int32_t sequence, int32_t n) {
  const Place& p = place(sequence);
  n < p.n_held() ? return_to_checkpoint(sequence, n) : shorten(sequence, n, n - p.n_held());
}

void Context::return_to_checkpoint(int32_t sequence, int32_t n) {
  Place& p = place(sequence);
  while (!p.checkpoints.empty() && (p.checkpoints.back().n > n ||
                                    !load_checkpoint(sequence, p.checkpoints.back(), kHostState)))
    p.checkpoints.pop_back();
  if (p.checkpoints.empty()) llama_memory_seq_rm(memory(), sequence, -1, -1);
  shorten(sequence, p.checkpoints.empty() ? 0 : p.checkpoints.back().n, 0);
}

void Context::shorten(int32_t sequence, int32_t n, int32_t n_read_again) {
  Place& p = place(sequence);
  p.cached.resize(static_cast<size_t>(n));
  p.new_cells.clear();
  p.n_shared = n;
  p.n_read_again = n_read_again;
  p.n_new = 0;
  ledger_.truncate(sequence, n);
}

}  // namespace ersd::llama
