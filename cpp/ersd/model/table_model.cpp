// The table model: its cache is a list of cells that belong to sequences, as in llama.cpp.
#include "ersd/model/table_model.h"

#include <algorithm>
#include <stdexcept>

#include "ersd/check.h"

namespace ersd {
namespace {

// FNV-1a over whole tokens.
constexpr uint64_t kFnvOffset = 1469598103934665603u, kFnvPrime = 1099511628211u;
constexpr int kUnusedBits = 20;  // the lowest bits of the hash are the least mixed ones

}  // namespace

TableModel::TableModel(std::vector<float> table, int32_t n_vocab, int32_t n_ctx,
                       int32_t n_sequences, int32_t n_ctx_total)
    : table_(std::move(table)),
      n_vocab_(n_vocab),
      n_ctx_(n_ctx),
      n_ctx_total_(n_ctx_total > 0 ? n_ctx_total : n_ctx * n_sequences) {
  if (n_vocab <= 0 || table_.empty() || table_.size() % static_cast<size_t>(n_vocab) != 0)
    throw std::invalid_argument("TableModel: table must have the shape [n_rows, n_vocab], got " +
                                std::to_string(table_.size()) +
                                " numbers for n_vocab = " + std::to_string(n_vocab));
  check_at_least("TableModel: n_sequences", n_sequences, 1);
  places_.resize(static_cast<size_t>(n_sequences));
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

std::span<const Token> TableModel::cached(int32_t sequence) const {
  return places_.at(static_cast<size_t>(sequence)).cached;
}

int32_t TableModel::n_free() const {
  const auto is_committed = [&](const Cell& cell) {
    return std::ranges::any_of(cell.sequences, [&](int32_t sequence) {
      return sequence < n_sequences() && cell.position < n_cached(sequence);
    });
  };
  const auto n_live = static_cast<int32_t>(std::ranges::count_if(cells_, is_committed));
  return std::max(0, n_ctx_total_ - n_live);
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

void TableModel::check_parts(std::span<const Part> parts) const {
  size_t n_rows = cells_.size();
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    check_between("decode: sequence", part.sequence, 0, n_sequences() - 1);
    for (size_t j = 0; j < i; ++j)
      if (parts[j].sequence == part.sequence)
        refuse("decode: the parts of sequence " + std::to_string(part.sequence), "one", 2);
    check_at_least("decode: the length of a history", part.history.size(),
                   cached(part.sequence).size());
    n_rows += part.history.size() - cached(part.sequence).size() + part.nodes.size();
  }
  if (n_rows > static_cast<size_t>(n_ctx_total_) + kMaxDraftNodes)
    throw std::runtime_error("the table model has no cells for " + std::to_string(n_rows) +
                             " tokens");
}

void TableModel::decode(std::span<const Part> parts) {
  check_parts(parts);
  for (Place& place : places_) place.rows.clear();
  last_call_.clear();
  const DraftTree no_tree;
  for (const Part& part : parts) {
    Place& place = places_[static_cast<size_t>(part.sequence)];
    const auto rest = part.history.subspan(place.cached.size());
    if (rest.empty() && part.nodes.empty()) continue;
    const DraftTree& tree = part.tree ? *part.tree : no_tree;
    add_cells(part, place.layout.lay_out(rest, n_cached(part.sequence), tree, part.nodes,
                                         kMaxDraftNodes));
  }
  for (const Part& part : parts) read_rows(part);
  ++n_calls_;
}

// Gives the committed cells to every sequence of the place, and adds those of the batch.
void TableModel::add_cells(const Part& part, const Batch& batch) {
  const int32_t place = part.sequence, n_committed = n_cached(place);
  for (Cell& cell : cells_)
    if (cell.position < n_committed && cell.is_in(place))
      for (int32_t s = 1; s < batch.n_sequences; ++s)
        if (!cell.is_in(global(place, s))) cell.sequences.push_back(global(place, s));
  for (const auto& copy : batch.copies)
    for (Cell& cell : cells_)
      if (cell.position >= copy.begin && cell.position < copy.end &&
          cell.is_in(global(place, copy.from)) && !cell.is_in(global(place, copy.to)))
        cell.sequences.push_back(global(place, copy.to));
  for (int32_t i = 0; i < batch.size(); ++i) {
    cells_.push_back({batch.token[i], batch.position[i], {}});
    for (int32_t j = batch.offset[i]; j < batch.offset[i + 1]; ++j)
      cells_.back().sequences.push_back(global(place, batch.sequence[j]));
  }
  last_call_.insert(last_call_.end(), batch.token.begin(), batch.token.end());
  n_decoded_ += batch.size();
}

// Looks up the logits of the part's nodes, each by the tokens that its sequence holds.
void TableModel::read_rows(const Part& part) {
  Place& place = places_[static_cast<size_t>(part.sequence)];
  const bool has_grown = part.history.size() > place.cached.size();
  place.cached.assign(part.history.begin(), part.history.end());
  if (part.nodes.empty()) {
    if (has_grown) place.layout.reset();  // the next tree has another root position
    return;
  }
  place.rows.assign(static_cast<size_t>(part.tree->size()), {});
  for (const int32_t node : part.nodes) {
    const int32_t sequence = global(part.sequence, place.layout.sequence(node));
    place.rows[static_cast<size_t>(node)] =
        row(visible(sequence, n_cached(part.sequence) + part.tree->depth(node)));
  }
}

std::span<const float> TableModel::logits(int32_t node, int32_t sequence) const {
  return places_.at(static_cast<size_t>(sequence)).rows.at(static_cast<size_t>(node));
}

void TableModel::commit(std::span<const Accepted> accepted) {
  for (auto [sequence, tree, node] : accepted) {
    Place& place = places_.at(static_cast<size_t>(sequence));
    while (node >= 0 && place.layout.sequence(node) < 0) node = tree->parent(node);
    const int32_t n_committed = n_cached(sequence);
    std::vector<int32_t> path;
    if (node >= 0) tree->path(node, path);
    keep(sequence, node < 0 ? sequence : global(sequence, place.layout.sequence(node)), n_committed,
         n_committed + static_cast<int32_t>(path.size()));
    for (const int32_t kept : path) place.cached.push_back(tree->token(kept));
  }
}

void TableModel::rollback(int32_t n, int32_t sequence) {
  Place& place = places_.at(static_cast<size_t>(sequence));
  place.cached.resize(static_cast<size_t>(std::clamp(n, 0, n_cached(sequence))));
  keep(sequence, sequence, n_cached(sequence), n_cached(sequence));
}

// Ends the tree of a place. Of its cells remain those before n_committed, and those of a sequence
// before `end`.
void TableModel::keep(int32_t place, int32_t sequence, int32_t n_committed, int32_t end) {
  for (Cell& cell : cells_) {
    const bool kept = (cell.position < n_committed && cell.is_in(place)) ||
                      (cell.position < end && cell.is_in(sequence));
    std::erase_if(cell.sequences, [&](int32_t s) { return belongs_to(s, place); });
    if (kept) cell.sequences.push_back(place);
  }
  std::erase_if(cells_, [](const Cell& cell) { return cell.sequences.empty(); });
  places_[static_cast<size_t>(place)].layout.reset();
}

bool TableModel::share(int32_t from, int32_t to, int32_t n) {
  check_between("share: n", n, 0, n_cached(from));
  if (n_cached(to) > 0) refuse("share: the place that takes over", "empty", n_cached(to));
  for (Cell& cell : cells_)
    if (cell.position < n && cell.is_in(from)) cell.sequences.push_back(to);
  const auto tokens = cached(from).first(static_cast<size_t>(n));
  places_[static_cast<size_t>(to)].cached.assign(tokens.begin(), tokens.end());
  return true;
}

}  // namespace ersd
