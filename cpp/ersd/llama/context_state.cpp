// Caches that are filled without decoding: copied for measurements, saved and loaded.
#include <llama.h>

#include <algorithm>
#include <stdexcept>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/context.h"

namespace ersd::llama {

// Makes the cache hold about n tokens, as a prompt of that length would, without decoding them:
// copies of the first 16 go into the cache again and again, at new positions.
int32_t Context::occupy(int32_t n) {
  constexpr int32_t kSeed = 16;
  rollback(0);
  can_shift_ = can_shift_ && llama_memory_can_shift(memory());
  if (n_branch_ids_ == 0 || !can_shift_ || !is_alone(0)) return 0;
  std::vector<Token> tokens;
  for (int32_t i = 0; i < kSeed; ++i) tokens.push_back(i * 977 % n_vocab_);
  const Part part{0, tokens, nullptr, {}};
  decode({&part, 1});
  give_branches_back(place(0), 1);  // the copies go into one sequence
  while (2 * n_cached() <= std::min(n, n_ctx_)) double_cache();
  return n_cached();
}

// Puts a copy of all cells of place 0 behind them.
void Context::double_cache() {
  Place& only = place(0);
  const int32_t n = only.n_cached(), id = carrier(0);
  Bytes bytes;
  save_sequence(0, bytes);
  llama_memory_seq_rm(memory(), id, -1, -1);
  // A cell that has left a sliding window is not reused while it is in two sequences.
  const int32_t keeper = branch_ids_.size() > 1 ? branch_ids_.front() : id;
  if (keeper != id) llama_memory_seq_cp(memory(), 0, keeper, 0, n);
  if (!load_sequence(id, bytes))
    throw std::runtime_error("llama.cpp could not copy " + std::to_string(n) +
                             " cells of its cache");
  llama_memory_seq_add(memory(), id, 0, n, n);
  llama_memory_seq_cp(memory(), id, 0, n, 2 * n);
  llama_memory_seq_rm(memory(), id, -1, -1);
  llama_memory_seq_rm(memory(), keeper, -1, -1);
  const std::vector<Token> copy = only.cached;
  only.cached.insert(only.cached.end(), copy.begin(), copy.end());
  only.n_shared = only.n_cached();
  ledger_.append(0, n);
}

Context::State Context::save_state(int32_t sequence) {
  if (!is_open(sequence)) return {};
  rollback(place(sequence).n_cached(), sequence);
  const Place& p = place(sequence);
  State state{{p.cached.begin(), p.cached.begin() + p.n_held()}, {}};
  save_sequence(sequence, state.data);
  return state;
}

// How llama.cpp writes a sequence of this context. The place must be empty: it takes a token.
const StateShape& Context::state_shape(int32_t sequence) {
  if (!state_shape_) {
    const std::vector<Token> tokens{0};
    const Part part{sequence, tokens, nullptr, {}};
    decode({&part, 1});
    Bytes bytes;
    save_sequence(sequence, bytes);
    rollback(0, sequence);
    state_shape_.emplace(bytes);
  }
  return *state_shape_;
}

void Context::load_state(const State& state, int32_t sequence) {
  rollback(0, sequence);
  if (state.tokens.empty()) return;
  const auto n = static_cast<int32_t>(state.tokens.size());
  if (n > n_ctx_)
    throw std::invalid_argument("the state has " + std::to_string(n) +
                                " tokens, the context has room for " + std::to_string(n_ctx_) +
                                " (n_ctx)");
  for (const Token token : state.tokens)
    if (token < 0 || token >= n_vocab_)
      refuse("the state's tokens", "between 0 and " + std::to_string(n_vocab_ - 1), token);
  open(sequence);
  const StateShape& shape = state_shape(sequence);
  make_room(n);
  clear_error();
  has_loaded_ = true;
  if (!shape.fits(state.data, n) || !load_sequence(sequence, state.data) ||
      llama_memory_seq_pos_max(memory(), sequence) != n - 1) {
    const std::string reason = error_suffix();
    remove(place(sequence), 0);
    throw std::invalid_argument("the state is not one of this model with these types of cache" +
                                reason);
  }
  place(sequence).cached = state.tokens;
  place(sequence).n_shared = n;
  ledger_.append(sequence, n);
}

}  // namespace ersd::llama
