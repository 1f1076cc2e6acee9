// Calls of llama_decode: histories and trees of several places in one batch.
#include <llama.h>

#include <algorithm>
#include <ctime>
#include <numeric>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/context.h"
#include "ersd/llama/context_params.h"
#include "ersd/llama/own_operations.h"
#include "ersd/stopwatch.h"

namespace ersd::llama {
namespace {

constexpr int32_t kAborted = 2;  // llama_decode's status if the abort callback stopped it

// compact() costs about as much as copying what is in the cache, so it waits until this share of
// the cache is buried.
constexpr int32_t kBuriedShare = 4;  // a quarter
// Attention on a CPU looks at every buried cell for every row. Moving a cell takes as long as
// looking at about so many buried ones, so compact() is also due when the calls since the last one
// have looked at so many for each cell that it would move.
constexpr int64_t kLooksPerMove = 64;

int32_t length(auto span) { return static_cast<int32_t>(span.size()); }

}  // namespace

std::span<const Token> Context::uncached(const Part& part) const {
  return part.history.subspan(static_cast<size_t>(place(part.sequence).n_held()));
}

void Context::check_parts(std::span<const Part> parts) const {
  const auto name = [](const Part& part) { return std::to_string(part.sequence); };
  int32_t n_nodes = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    const Place& p = place(part.sequence);
    const int32_t n_history = length(part.history);
    for (size_t j = 0; j < i; ++j)
      if (parts[j].sequence == part.sequence)
        refuse("decode: the parts of sequence " + name(part), "one", 2);
    if (n_history < p.n_cached())
      refuse("decode: the history of sequence " + name(part),
             "at least its " + std::to_string(p.n_cached()) + " cached tokens", n_history);
    if (p.n_tree > 0 && n_history > p.n_cached())
      throw std::invalid_argument("decode: sequence " + name(part) +
                                  " must end its tree before its history grows");
    n_nodes += length(part.nodes);
  }
  check_between("decode: the number of nodes", n_nodes, 0, max_nodes());
  if (ordered_cells_ && first_hole_ != kNoHole)
    throw std::invalid_argument("decode: trees that were decoded together must end together");
}

void Context::decode(std::span<const Part> parts) {
  check_parts(parts);
  for (Place& place : places_) place.row_offset = -1;
  int32_t n_nodes = 0, n_history = 0;
  for (const Part& part : parts) {
    n_nodes += length(part.nodes);
    n_history += length(uncached(part));
  }
  if (n_nodes + n_history == 0) return;
  for (const Part& part : parts) open(part.sequence);
  reserve_branches(parts);
  has_called_ = false;
  try {
    make_room(n_nodes + n_history + widths_.step - 1);  // with padding, which a call drops again
    for (const Part& part : parts) take_branches(place(part.sequence), n_least_ids());
    // A call must end where a checkpoint is taken.
    const bool ends_prompts =
        std::ranges::any_of(parts, [this](const Part& part) { return ends_prompt(part); });
    read_histories(parts, widths_.pads() || ends_prompts ? 0 : n_batch_ - n_nodes);
    save_checkpoints(parts);
    if (!can_branch_) save_bases(parts);
    decode_rest(parts);
  } catch (...) {
    drop_call(parts);
    throw;
  }
}

// Makes sure that n cells are free.
void Context::make_room(int32_t n) {
  if (!can_branch_) return;  // each place has its own cells
  int32_t n_used = ledger_.n_live() + n;
  for (const Place& place : places_) n_used += place.n_tree;
  const bool is_full = n_used + n_buried_ > n_cells_;
  n_looks_ += int64_t{n} * n_buried_;
  const bool is_worth_it =
      kBuriedShare * n_buried_ > n_ctx_total_ ||
      (cache_on_cpu(model_, options_) && n_looks_ > kLooksPerMove * ledger_.n_live());
  if (n_buried_ > 0 && (is_full || is_worth_it) && !has_trees()) compact();
  if (n_used + n_buried_ > n_cells_)
    throw std::runtime_error("the cache must have room for " + std::to_string(n) +
                             " more tokens, got " +
                             std::to_string(n_cells_ - (n_used - n) - n_buried_));
}

// Decodes the beginnings of histories in calls of their own until at most n_left tokens are left
// for the last call.
void Context::read_histories(std::span<const Part> parts, int32_t n_left) {
  const auto count = [this](int32_t n, const Part& part) { return n + length(uncached(part)); };
  int32_t n = std::accumulate(parts.begin(), parts.end(), 0, count);
  while (n > n_left) {
    begin_batch();
    std::vector<std::pair<int32_t, std::span<const Token>>> pieces;
    for (const Part& part : parts) {
      const int32_t room = n_batch_ - length(batch_token_);
      const auto piece =
          uncached(part).first(static_cast<size_t>(std::min(room, length(uncached(part)))));
      add_history(place(part.sequence), piece);
      pieces.emplace_back(part.sequence, piece);
    }
    n -= length(batch_token_);
    run_batch();
    int32_t row = 0;
    for (const auto& [sequence, piece] : pieces) {
      keep_history(sequence, piece, row);
      row += length(piece);
    }
    n_new_cells_ += row;
    if (!has_trees()) settle();
  }
}

// Decodes what is left of the histories and all nodes in one call. Histories go first: rejected
// nodes then leave no hole before them.
void Context::decode_rest(std::span<const Part> parts) {
  begin_batch();
  for (const Part& part : parts) {
    Place& p = place(part.sequence);
    if (part.nodes.empty()) continue;
    p.layout.lay_out(uncached(part), p.n_held(), *part.tree, part.nodes, n_branch_ids_ + 1);
  }
  for (Place& place : places_) take_branches(place, place.layout.n_sequences());
  for (const Part& part : parts) add_history(place(part.sequence), uncached(part));
  for (const Part& part : parts)
    if (!part.nodes.empty()) add_nodes(place(part.sequence));
  if (batch_token_.empty()) return;
  run_batch();
  int32_t row = 0;
  for (const Part& part : parts) {
    const auto tokens = uncached(part);
    keep_history(part.sequence, tokens, row);
    row += length(tokens);
  }
  for (const Part& part : parts) {
    Place& p = place(part.sequence);
    p.n_last_rows = length(part.nodes);
    if (part.nodes.empty()) continue;
    p.n_tree += length(part.nodes);
    p.node_cell.resize(static_cast<size_t>(part.tree->size()), -1);
    for (const int32_t node : part.nodes)
      p.node_cell[static_cast<size_t>(node)] = n_new_cells_ + row++;
  }
  n_new_cells_ += row;
  if (!has_trees()) settle();
}

// After an exception: removes what the call added, and the trees of its places.
void Context::drop_call(std::span<const Part> parts) {
  drop_padding();
  for (const Part& part : parts) {
    Place& p = place(part.sequence);
    if (can_branch_) remove(p, p.n_cached());
    end_tree(part.sequence, nullptr, -1);
    if (!can_branch_ && has_called_) go_back(part.sequence);  // nobody knows how far its state is
  }
  if (!has_trees()) settle();
}

void Context::begin_batch() {
  batch_token_.clear();
  batch_position_.clear();
  batch_id_.clear();
  batch_n_id_.clear();
  batch_logits_.clear();
}

// Adds the next tokens of a history. They belong to all branches of the place.
void Context::add_history(const Place& place, std::span<const Token> tokens) {
  int32_t position = place.n_held();
  for (const Token token : tokens) {
    add_row(token, position++, false);
    batch_id_.insert(batch_id_.end(), place.ids.begin(), place.ids.end());
    batch_n_id_.push_back(place.n_ids());
  }
}

// Adds the nodes that the place's layout has just laid out.
void Context::add_nodes(Place& place) {
  const Batch& batch = place.layout.batch();
  for (const auto& [from, to, begin, end] : batch.copies)
    llama_memory_seq_cp(memory(), place.ids[static_cast<size_t>(from)],
                        place.ids[static_cast<size_t>(to)], begin, end);
  place.row_offset = length(batch_token_) - batch.n_history;
  for (int32_t row = batch.n_history; row < batch.size(); ++row) {
    const auto i = static_cast<size_t>(row);
    add_row(batch.token[i], batch.position[i], true);
    for (int32_t j = batch.offset[i]; j < batch.offset[i + 1]; ++j)
      batch_id_.push_back(place.ids[static_cast<size_t>(batch.sequence[static_cast<size_t>(j)])]);
    batch_n_id_.push_back(batch.offset[i + 1] - batch.offset[i]);
  }
}

void Context::add_row(Token token, int32_t position, bool has_logits) {
  // A draft may lack the target's last tokens. Token 0 stands for them: the draft's logits may be
  // anything.
  batch_token_.push_back(token < n_vocab_ ? token : 0);
  batch_position_.push_back(position);
  batch_logits_.push_back(has_logits ? 1 : 0);
}

void Context::run_batch() {
  const int32_t n_tokens = length(batch_token_);
  pad_batch();
  batch_ids_.clear();
  int32_t* ids = batch_id_.data();
  for (const int32_t n : batch_n_id_) {
    batch_ids_.push_back(ids);
    ids += n;
  }
  *batch_ = {length(batch_token_),   batch_token_.data(), nullptr,
             batch_position_.data(), batch_n_id_.data(),  batch_ids_.data(),
             batch_logits_.data()};
  if (interrupted_ && interrupted_()) throw Interrupted();
  clear_error();
  has_called_ = true;
  call_llama();
  drop_padding();
  n_decoded_ += n_tokens;
}

// Pads the call. The padding comes last and leaves the cache after the call, so it changes neither
// the cells of other tokens nor what they attend to. All rows of a padded call have logits or none
// has, since the last layer computes those that have.
void Context::pad_batch() {
  const int32_t n = length(batch_token_);
  const bool has_logits = batch_logits_.back() == 1;
  for (int32_t i = 0; n + i < widths_.padded(n); ++i) {
    add_row(0, i, has_logits);
    batch_id_.push_back(padding_id_);
    batch_n_id_.push_back(1);
  }
}

void Context::drop_padding() {
  if (widths_.pads()) llama_memory_seq_rm(memory(), padding_id_, -1, -1);
}

// Runs the batch by as many threads as are fastest while other processes compete for the cores.
void Context::call_llama() {
  const int32_t n_threads = governs_ ? governor_.n_threads() : n_threads_;
  if (n_threads != llama_n_threads(context_.get()))
    llama_set_n_threads(context_.get(), n_threads, n_threads);
  double ms = 0;
  const std::clock_t cpu_begin = std::clock();
  int32_t status;
  {
    const Stopwatch watch(ms);
    const OwnOperations own(owns_attention_);
    status = llama_decode(context_.get(), *batch_);
    llama_synchronize(context_.get());  // a GPU works on, and its time is the call's
  }
  if (status == kAborted) throw Interrupted();
  if (status != 0)
    throw std::runtime_error("llama_decode failed with status " + std::to_string(status) + " on " +
                             std::to_string(batch_->n_tokens) + " tokens" + error_suffix());
  const double cpu_ms = 1000.0 * static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
  governor_.learn(batch_->n_tokens, ms, cpu_ms);
}

// Notes that tokens of a history are cached. first_cell: the row of the first one in the call.
void Context::keep_history(int32_t sequence, std::span<const Token> tokens, int32_t first_cell) {
  Place& p = place(sequence);
  const int32_t n_again = std::min(p.n_read_again, length(tokens));
  p.n_read_again -= n_again;
  tokens = tokens.subspan(static_cast<size_t>(n_again));
  p.cached.insert(p.cached.end(), tokens.begin(), tokens.end());
  p.n_new += length(tokens);
  p.n_shared = p.n_cached();
  ledger_.append(sequence, length(tokens));
  for (int32_t i = 0; i < length(tokens); ++i) p.new_cells.push_back(n_new_cells_ + first_cell + i);
}

}  // namespace ersd::llama
