// The table model: its cache is a list of cells that belong to sequences, as in llama.cpp.
#include "ersd/model/table_model.h"

#include <algorithm>
#include <stdexcept>

namespace ersd {
namespace {

// FNV-1a over whole tokens.
constexpr uint64_t kFnvOffset = 1469598103934665603u, kFnvPrime = 1099511628211u;
constexpr int kUnusedBits = 20;  // the lowest bits of the hash are the least mixed ones

}  // namespace

TableModel::TableModel(std::vector<float> table, int32_t n_vocab, int32_t n_ctx)
    : table_(std::move(table)), n_vocab_(n_vocab), n_ctx_(n_ctx) {
  if (n_vocab <= 0 || table_.empty() || table_.size() % static_cast<size_t>(n_vocab) != 0)
    throw std::invalid_argument("TableModel: table must have the shape [n_rows, n_vocab], got " +
                                std::to_string(table_.size()) +
                                " numbers for n_vocab = " + std::to_string(n_vocab));
}

std::span<const float> TableModel::row(std::span<const Token> tokens) const {
  uint64_t hash = kFnvOffset;
  for (Token token : tokens) hash = (hash ^ static_cast<uint64_t>(token + 1)) * kFnvPrime;
  const size_t n_rows = table_.size() / static_cast<size_t>(n_vocab_);
  return std::span(table_).subspan((hash >> kUnusedBits) % n_rows * static_cast<size_t>(n_vocab_),
                                   static_cast<size_t>(n_vocab_));
}

bool TableModel::Cell::is_in(int32_t sequence) const {
  return std::ranges::find(sequences, sequence) != sequences.end();
}

// The tokens that a sequence holds up to a position.
std::vector<Token> TableModel::visible(int32_t sequence, int32_t position) const {
  std::vector<const Cell*> seen;
  for (const Cell& cell : cells_)
    if (cell.position <= position && cell.is_in(sequence)) seen.push_back(&cell);
  std::ranges::sort(seen, {}, &Cell::position);
  std::vector<Token> tokens;
  for (const Cell* cell : seen) tokens.push_back(cell->token);
  return tokens;
}

// Adds the committed cells to every sequence.
void TableModel::share_prefix(int32_t n_sequences) {
  for (Cell& cell : cells_)
    if (cell.position < n_cached())
      for (auto s = static_cast<int32_t>(cell.sequences.size()); s < n_sequences; ++s)
        cell.sequences.push_back(s);
}

void TableModel::decode(std::span<const Token> history, const DraftTree& tree,
                        std::span<const int32_t> nodes) {
  const Batch& batch =
      layout_.lay_out(history.subspan(cached_.size()), n_cached(), tree, nodes, kMaxDraftNodes);
  share_prefix(batch.n_sequences);
  for (const auto& copy : batch.copies)
    for (Cell& cell : cells_)
      if (cell.position >= copy.begin && cell.position < copy.end && cell.is_in(copy.from))
        cell.sequences.push_back(copy.to);
  for (int32_t i = 0; i < batch.size(); ++i)
    cells_.push_back(
        {batch.token[i],
         batch.position[i],
         {batch.sequence.begin() + batch.offset[i], batch.sequence.begin() + batch.offset[i + 1]}});
  rows_.assign(tree.size(), {});
  for (size_t i = 0; i < nodes.size(); ++i) {
    const int32_t at = batch.n_history + static_cast<int32_t>(i);
    rows_[nodes[i]] = row(visible(batch.sequence[batch.offset[at]], batch.position[at]));
  }
  cached_.assign(history.begin(), history.end());
  n_decoded_ += batch.size();
  ++n_calls_;
}

std::span<const float> TableModel::logits(int32_t node) const { return rows_.at(node); }

void TableModel::commit(const DraftTree& tree, int32_t node) {
  while (node >= 0 && layout_.sequence(node) < 0) node = tree.parent(node);
  if (node >= 0) {
    const int32_t sequence = layout_.sequence(node), end = n_cached() + tree.depth(node) + 1;
    std::erase_if(cells_, [&](const Cell& cell) {
      return cell.position >= n_cached() && (cell.position >= end || !cell.is_in(sequence));
    });
    std::vector<int32_t> path;
    tree.path(node, path);
    for (const int32_t accepted : path) cached_.push_back(tree.token(accepted));
  }
  rollback(n_cached());
}

void TableModel::rollback(int32_t n) {
  cached_.resize(static_cast<size_t>(std::min(n_cached(), n)));
  std::erase_if(cells_, [&](const Cell& cell) { return cell.position >= n_cached(); });
  for (Cell& cell : cells_) cell.sequences.assign(1, 0);
  layout_.reset();
}

}  // namespace ersd
