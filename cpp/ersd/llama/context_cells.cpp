// The order of cells. Attention sums over cells in the order of their indices and skips those of
// other sequences, so a text has the bits of plain decoding if its cells ascend with its positions.
// llama.cpp puts new tokens into the lowest free cells. Hence no free cell may lie before one that
// a place holds.
#include <llama.h>

#include <algorithm>
#include <stdexcept>

#include "ersd/llama/backend.h"
#include "ersd/llama/context.h"

namespace ersd::llama {

// The sequence that carries cells out of the cache and back: llama.cpp saves and restores whole
// sequences only. A context of one place takes an unused branch for it, or else one of the tree's.
int32_t Context::carrier(int32_t id) const {
  if (size_.places > 1) return size_.places + kGraveyards;
  if (n_sequences() > 1) return 1;
  if (!branch_ids_.empty()) return branch_ids_.back();
  return id == 0 ? 1 : 0;
}

// Writes llama.cpp's bytes of a sequence.
void Context::save_sequence(int32_t id, Bytes& bytes) {
  bytes.resize(llama_state_seq_get_size(context_.get(), id));
  bytes.resize(llama_state_seq_get_data(context_.get(), bytes.data(), bytes.size(), id));
}

// Puts a saved sequence into the lowest free cells. Returns whether llama.cpp could do it.
bool Context::load_sequence(int32_t id, const Bytes& bytes) {
  return !bytes.empty() &&
         llama_state_seq_set_data(context_.get(), bytes.data(), bytes.size(), id) == bytes.size();
}

// Writes llama.cpp's bytes of the positions [begin, end) of a sequence, in pieces that a sliding
// window holds whole: llama.cpp does not save what has left the window.
void Context::save_cells(int32_t id, int32_t carrier, int32_t begin, int32_t end,
                         std::vector<Bytes>& pieces) {
  size_t n_pieces = 0;
  while (begin < end) {
    const int32_t piece_end = window_ > 0 ? std::min(end, (begin / window_ + 1) * window_) : end;
    if (pieces.size() == n_pieces) pieces.emplace_back();
    llama_memory_seq_cp(memory(), id, carrier, begin, piece_end);
    save_sequence(carrier, pieces[n_pieces++]);
    llama_memory_seq_rm(memory(), carrier, -1, -1);
    begin = piece_end;
  }
  pieces.resize(n_pieces);
}

// Puts saved cells back into the sequence, into the lowest free cells.
void Context::restore_cells(int32_t id, int32_t carrier, const std::vector<Bytes>& pieces) {
  for (const Bytes& piece : pieces) {
    if (!load_sequence(carrier, piece))
      throw std::runtime_error("llama.cpp could not move accepted tokens in its cache" +
                               error_suffix());
    llama_memory_seq_cp(memory(), carrier, id, -1, -1);
    llama_memory_seq_rm(memory(), carrier, -1, -1);
  }
}

// Moves the positions from begin on of a sequence into the lowest free cells. No other sequence may
// hold them.
void Context::order_cells(int32_t id, int32_t begin, int32_t end) {
  const int32_t carrier = this->carrier(id);
  const bool is_borrowed = n_sequences() == 1 && branch_ids_.empty();
  if (is_borrowed) llama_memory_seq_rm(memory(), carrier, -1, -1);
  save_cells(id, carrier, begin, end, cell_bytes_);
  llama_memory_seq_rm(memory(), id, begin, -1);
  restore_cells(id, carrier, cell_bytes_);
  if (is_borrowed) llama_memory_seq_cp(memory(), id, carrier, 0, begin);
}

// Takes the positions from n on out of a place, but does not free their cells: the next tokens of
// other places would fill them and come before tokens that they follow.
void Context::bury(int32_t sequence, int32_t n) {
  for (int32_t i = 0; i < kGraveyards; ++i)
    llama_memory_seq_cp(memory(), sequence, size_.places + i, n, -1);
  remove(place(sequence), n);
  has_graves_ = true;
  const int32_t n_before = ledger_.n_live();
  ledger_.truncate(sequence, n);
  n_buried_ += n_before - ledger_.n_live();
}

// Frees buried cells: takes everything out of the cache and puts the places' tokens back, one place
// after the other. A beginning that places share is put back once.
void Context::compact() {
  const std::vector<Saved> all = save_all();
  llama_memory_clear(memory(), false);
  restore_all(all);
}

std::vector<Context::Saved> Context::save_all() {
  std::vector<Saved> all;
  reclaim_branches(1);
  for (int32_t i = 0; i < n_sequences(); ++i)
    if (place(i).n_cached() > 0) all.push_back(save_place(i, all));
  return all;
}

// Puts the tokens of all places back into an empty cache.
void Context::restore_all(const std::vector<Saved>& all) {
  forget_graves();
  try {
    for (const auto& [sequence, sharer, n_shared, pieces] : all) {
      if (sharer >= 0) llama_memory_seq_cp(memory(), sharer, sequence, 0, n_shared);
      restore_cells(sequence, carrier(sequence), pieces);
    }
  } catch (...) {
    clear();
    throw;
  }
}

// Saves the cells that a place does not share with those that are saved already.
Context::Saved Context::save_place(int32_t sequence, const std::vector<Saved>& earlier) {
  Saved saved{sequence, -1, 0, {}};
  for (const Saved& other : earlier)
    if (const int32_t n = ledger_.shared_prefix(other.sequence, sequence); n > saved.n_shared)
      saved.sharer = other.sequence, saved.n_shared = n;
  save_cells(sequence, carrier(sequence), saved.n_shared, place(sequence).n_cached(), saved.pieces);
  return saved;
}

}  // namespace ersd::llama
