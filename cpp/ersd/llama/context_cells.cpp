// Cells of a context's cache that leave it and come back: ordered, copied, saved and loaded.
#include <llama.h>

#include <algorithm>
#include <stdexcept>

#include "ersd/llama/backend.h"
#include "ersd/llama/context.h"

namespace ersd::llama {

// Moves the positions [begin, end) of a sequence into the first free cells, in order. Attention
// sums over the cells in their order, so accepted tokens must lie in the order of their positions,
// without holes that later tokens would fill.
void Context::order_cells(int32_t sequence, int32_t begin, int32_t end) {
  llama_memory_t memory = llama_get_memory(context_.get());
  // llama.cpp saves and restores whole sequences, so a sequence of its own carries the cells. If
  // all are in use, one of them is emptied for it and filled again afterwards.
  const bool has_spare = n_prefix_sequences_ < max_sequences_;
  const int32_t carrier = has_spare ? n_prefix_sequences_ : (sequence == 0 ? 1 : 0);
  if (!has_spare) llama_memory_seq_rm(memory, carrier, -1, -1);
  llama_memory_seq_cp(memory, sequence, carrier, begin, end);
  cell_bytes_.resize(llama_state_seq_get_size(context_.get(), carrier));
  const size_t n =
      llama_state_seq_get_data(context_.get(), cell_bytes_.data(), cell_bytes_.size(), carrier);
  llama_memory_seq_rm(memory, carrier, -1, -1);
  llama_memory_seq_rm(memory, sequence, begin, -1);
  if (n == 0 || llama_state_seq_set_data(context_.get(), cell_bytes_.data(), n, carrier) == 0)
    throw std::runtime_error("llama.cpp could not move " + std::to_string(end - begin) +
                             " accepted tokens in its cache");
  llama_memory_seq_cp(memory, carrier, sequence, begin, end);
  llama_memory_seq_rm(memory, carrier, -1, -1);
  if (!has_spare) llama_memory_seq_cp(memory, sequence, carrier, 0, begin);
}

// Makes the cache hold about n tokens, as a prompt of that length would, without decoding them:
// copies of the first 16 go into the cache again and again, at new positions.
int32_t Context::occupy(int32_t n) {
  constexpr int32_t kSeed = 16;
  rollback(0);
  can_shift_ = can_shift_ && llama_memory_can_shift(llama_get_memory(context_.get()));
  if (max_sequences_ < 2 || !can_shift_) return 0;
  std::vector<Token> tokens;
  for (int32_t i = 0; i < kSeed; ++i) tokens.push_back(i * 977 % n_vocab_);
  decode_history(tokens);
  while (2 * n_cached() <= std::min(n, n_ctx_)) double_cache();
  return n_cached();
}

// Puts a copy of all cells behind them.
void Context::double_cache() {
  llama_memory_t memory = llama_get_memory(context_.get());
  const int32_t n = n_cached(), carrier = 1;
  cell_bytes_.resize(llama_state_seq_get_size(context_.get(), 0));
  llama_state_seq_get_data(context_.get(), cell_bytes_.data(), cell_bytes_.size(), 0);
  llama_memory_seq_rm(memory, carrier, -1, -1);
  if (llama_state_seq_set_data(context_.get(), cell_bytes_.data(), cell_bytes_.size(), carrier) ==
      0)
    throw std::runtime_error("llama.cpp could not copy " + std::to_string(n) +
                             " cells of its cache");
  llama_memory_seq_add(memory, carrier, 0, n, n);
  llama_memory_seq_cp(memory, carrier, 0, n, 2 * n);
  llama_memory_seq_rm(memory, carrier, -1, -1);
  const std::vector<Token> copy = cached_;
  cached_.insert(cached_.end(), copy.begin(), copy.end());
  n_prefix_ = n_cached();
  n_prefix_sequences_ = 1;
}

Context::State Context::save_state() {
  rollback(n_cached());
  State state{cached_, std::vector<uint8_t>(llama_state_seq_get_size(context_.get(), 0))};
  state.data.resize(
      llama_state_seq_get_data(context_.get(), state.data.data(), state.data.size(), 0));
  return state;
}

void Context::load_state(const State& state) {
  rollback(0);
  if (state.tokens.empty()) return;
  const auto n = static_cast<int32_t>(state.tokens.size());
  if (n > n_ctx_)
    throw std::invalid_argument("the state has " + std::to_string(n) +
                                " tokens, the context has room for " + std::to_string(n_ctx_) +
                                " (n_ctx)");
  clear_error();
  const bool loaded = llama_state_seq_set_data(context_.get(), state.data.data(), state.data.size(),
                                               0) == state.data.size() &&
                      llama_memory_seq_pos_max(llama_get_memory(context_.get()), 0) == n - 1;
  if (!loaded) {
    const std::string reason = error_suffix();
    rollback(0);
    throw std::invalid_argument("the state is not one of this model with these types of cache" +
                                reason);
  }
  cached_ = state.tokens;
  n_prefix_ = n;
}

}  // namespace ersd::llama
