// The end of trees and the return to earlier tokens: what stays in the cache, and in which cells.
#include <llama.h>

#include <algorithm>

#include "ersd/check.h"
#include "ersd/llama/context.h"

namespace ersd::llama {

bool Context::has_trees() const {
  return std::ranges::any_of(places_, [](const Place& place) { return place.n_tree > 0; });
}

void Context::commit(std::span<const Accepted> accepted) {
  for (const auto& [sequence, tree, node] : accepted) end_tree(sequence, tree, node);
  if (!has_trees()) return settle();
  if (first_hole_ != kNoHole) return;  // decode() waits for the end of the other trees
  for (const auto& [sequence, tree, node] : accepted) spread(place(sequence));
}

// Keeps the path to a node of a place's tree, or nothing of it if node is -1, and frees the other
// cells of the tree.
void Context::end_tree(int32_t sequence, const DraftTree* tree, int32_t node) {
  Place& p = place(sequence);
  while (node >= 0 && p.layout.sequence(node) < 0) node = tree->parent(node);
  path_.clear();
  if (node >= 0) tree->path(node, path_);
  if (!can_branch_) return keep_path(sequence, tree);
  const int32_t begin = p.n_cached(), end = begin + static_cast<int32_t>(path_.size());
  const bool has_rejected = p.n_tree > end - begin;
  if (p.n_tree > 0 && (has_rejected || p.n_ids() > 1)) {
    if (ordered_cells_) first_hole_ = std::min(first_hole_, first_rejected(p));
    p.kept = std::max(0, p.layout.sequence(node));
    if (node < 0)
      remove(p, begin);
    else
      for (int32_t i = 0; i < p.n_ids(); ++i)
        llama_memory_seq_rm(memory(), p.ids[static_cast<size_t>(i)], i == p.kept ? end : begin, -1);
  }
  for (const int32_t kept : path_) {
    p.cached.push_back(tree->token(kept));
    p.new_cells.push_back(p.node_cell[static_cast<size_t>(kept)]);
  }
  ledger_.append(sequence, end - begin);
  p.n_tree = 0;
  p.node_cell.clear();
  p.layout.reset();
}

// The lowest number of a cell of the place's tree that is not on path_; kNoHole if all are.
int32_t Context::first_rejected(const Place& place) const {
  int32_t first = kNoHole;
  size_t next = 0;  // in path_
  for (int32_t node = 0; node < static_cast<int32_t>(place.node_cell.size()); ++node) {
    const int32_t cell = place.node_cell[static_cast<size_t>(node)];
    if (next < path_.size() && path_[next] == node)
      ++next;
    else if (cell >= 0)
      first = std::min(first, cell);
  }
  return first;
}

// After the end of all trees: closes the holes that rejected nodes left, and gives every branch of
// a place what the place has committed.
void Context::settle() {
  for (Place& place : places_) settle(place);
  n_new_cells_ = 0;
  first_hole_ = kNoHole;
}

void Context::settle(Place& place) {
  const int32_t end = place.n_cached();
  const auto is_behind = [this](int32_t cell) { return cell > first_hole_; };
  const auto moved = std::ranges::find_if(place.new_cells, is_behind);
  const int32_t begin = end - static_cast<int32_t>(place.new_cells.end() - moved);
  if (begin < end) {
    const int32_t from = place.ids[static_cast<size_t>(place.kept)];
    if (begin < place.n_shared)
      for (const int32_t id : place.ids)
        if (id != from) llama_memory_seq_rm(memory(), id, begin, -1);
    place.n_shared = std::min(place.n_shared, begin);
    order_cells(from, begin, end);
  }
  spread(place);
  place.new_cells.clear();
}

// Lets all sequences of a place hold what it has committed.
void Context::spread(Place& place) {
  const int32_t from = place.ids[static_cast<size_t>(place.kept)], end = place.n_cached();
  if (place.n_shared < end)
    for (const int32_t id : place.ids)
      if (id != from) llama_memory_seq_cp(memory(), from, id, place.n_shared, end);
  place.n_shared = end;
  place.kept = 0;
}

void Context::rollback(int32_t n, int32_t sequence) {
  Place& p = place(sequence);
  if (!is_open(sequence)) return;
  n = std::clamp(n, 0, p.n_cached());
  if (p.n_tree > 0) end_tree(sequence, nullptr, -1);
  spread(p);
  if (n < p.n_cached() || n == 0) cut(sequence, n);
  if (!has_trees()) settle();
}

bool Context::is_alone(int32_t sequence) const {
  for (int32_t i = 0; i < n_sequences(); ++i)
    if (i != sequence && (place(i).n_cached() > 0 || place(i).n_tree > 0)) return false;
  return true;
}

// Takes the positions from n on out of all sequences of a place.
void Context::remove(const Place& place, int32_t n) {
  if (n_sequences() == 1 && n_branch_ids_ > 0) {
    llama_memory_seq_rm(memory(), -1, n, -1);
  } else {
    for (const int32_t id : place.ids) llama_memory_seq_rm(memory(), id, n, -1);
  }
}

// Keeps the first n committed tokens of a place without a tree, or none if its cache cannot be cut
// there.
void Context::cut(int32_t sequence, int32_t n) {
  Place& p = place(sequence);
  if (has_loaded_ && n == 0 && is_alone(sequence)) return clear();
  if (!can_branch_) return return_to(sequence, n);
  // A sliding window can be cut if the cells before the cut are still there.
  const int32_t n_needed = keeps_window_ ? 0 : std::max(0, n - window_);
  if (llama_memory_seq_pos_min(memory(), sequence) > n_needed) {
    if (!keeps_window_) return return_to_checkpoint(sequence, n);
    n = 0;
  }
  while (!p.checkpoints.empty() && p.checkpoints.back().n > n) p.checkpoints.pop_back();
  const bool alone = is_alone(sequence);
  if (alone && n == 0) return clear();
  if (n == 0) give_branches_back(p, 1);
  if ((!alone || has_graves_) && ordered_cells_)
    bury(sequence, n);
  else
    remove(p, n);
  ledger_.truncate(sequence, n);
  const int32_t n_old = static_cast<int32_t>(p.new_cells.size()) - (p.n_cached() - n);
  p.new_cells.resize(static_cast<size_t>(std::max(0, n_old)));
  p.cached.resize(static_cast<size_t>(n));
  p.n_shared = std::min(p.n_shared, n);
}

// Empties the cache. Numbers of a state from elsewhere are overwritten: NaN would stay in it.
// llama.cpp begins a recurrent state with 0 times what was there, and without flash attention it
// multiplies cells that no token sees by 0.
void Context::clear() {
  llama_memory_clear(memory(), has_loaded_);
  has_loaded_ = false;
  for (int32_t i = 0; i < n_sequences(); ++i) {
    ledger_.truncate(i, 0);
    Place& cleared = place(i);
    cleared.cached.clear();
    cleared.new_cells.clear();
    cleared.n_shared = cleared.kept = 0;
    cleared.n_read_again = cleared.n_new = 0;
    cleared.base.n = -1;
    cleared.checkpoints.clear();
  }
  reset_branches();
  forget_graves();
  n_new_cells_ = 0;
  first_hole_ = kNoHole;
}

bool Context::share(int32_t from, int32_t to, int32_t n) {
  const Place& source = place(from);
  Place& copy = place(to);
  check_between("share: n", n, 0, source.n_cached());
  if (copy.n_cached() > 0) refuse("share: the place that takes over", "empty", copy.n_cached());
  if (!can_branch_ || has_trees()) return false;
  open(to);
  const bool is_whole = llama_memory_seq_pos_min(memory(), from) <= 0;  // see cut()
  if (!is_whole && n < source.n_cached()) return false;
  llama_memory_seq_cp(memory(), from, to, 0, n);
  copy.cached.assign(source.cached.begin(), source.cached.begin() + n);
  copy.n_shared = n;
  ledger_.share(from, to, n);
  return true;
}

}  // namespace ersd::llama
