// Sequence ids of llama.cpp: which of them the branches of a place's trees have.
#include <llama.h>

#include <algorithm>
#include <stdexcept>

#include "ersd/llama/context.h"

namespace ersd::llama {

// Several places come with graveyards and a carrier, see carrier(). One place needs neither, but
// with others to come a carrier, which takes it to another context.
int32_t Context::first_branch_id(int32_t n_places) const {
  if (n_places > 1) return n_places + kGraveyards + 1;
  return n_sequences() == 1 ? 1 : 2;
}

int32_t Context::max_branches() const {
  if (!is_lazy_ || !keeps_window_) return n_branch_ids_;
  const int32_t n_ids = kMaxIds - first_branch_id(n_sequences());
  return std::max(0, std::min(n_ids, size_.nodes + 1) - (padding_id_ >= 0 ? 1 : 0));
}

// Lets a place have a sequence of llama.cpp.
void Context::open(int32_t sequence) {
  if (is_open(sequence)) return;
  remake({size_.nodes, std::min(n_sequences(), std::max(sequence + 1, 2 * size_.places)),
          size_.branches});
}

// Sees to it that the trees of a call find as many branches as they need, if there may be so many.
void Context::reserve_branches(std::span<const Part> parts) {
  if (!is_lazy_ || !keeps_window_ || has_trees()) return;
  int32_t n = (n_least_ids() - 1) * size_.places;
  for (const Part& part : parts)
    if (part.nodes.size() > 1) n += part.tree->n_branches();
  n = std::min(n, max_branches());
  if (n > n_branch_ids_)
    remake({size_.nodes, size_.places, std::min(size_.nodes, std::max(n, 2 * size_.branches))});
}

// All branches go back, so that every place has its own id alone.
void Context::reset_branches() {
  branch_ids_.clear();
  for (int32_t i = n_branch_ids_; i-- > 0;)
    branch_ids_.push_back(first_branch_id(size_.places) + i);
  for (int32_t i = 0; i < n_sequences(); ++i) place(i).ids.assign(1, i);
}

// Gives a place more branches until it has n_ids sequences. Each holds what the place holds.
void Context::take_branches(Place& place, int32_t n_ids) {
  while (place.n_ids() < n_ids) {
    if (branch_ids_.empty() && !reclaim_branches(n_least_ids()))
      throw std::length_error("decode: the trees of a call need more than " +
                              std::to_string(n_branch_ids_) + " branches");
    const int32_t id = branch_ids_.back();
    branch_ids_.pop_back();
    llama_memory_seq_cp(memory(), place.ids[0], id, 0, place.n_shared);
    place.ids.push_back(id);
  }
}

// How many sequences a place must have. llama.cpp reuses a cell that has left a sliding window if
// it is in one sequence alone, and padding that comes and goes makes it look for such cells.
int32_t Context::n_least_ids() const { return widths_.pads() && window_ > 0 ? 2 : 1; }

// Takes back the branches that no tree uses, but leaves n_least sequences to places that have them.
// Returns whether there are any.
bool Context::reclaim_branches(int32_t n_least) {
  for (Place& place : places_)
    give_branches_back(place, std::max(n_least, place.layout.n_sequences()));
  return !branch_ids_.empty();
}

// Takes branches back until the place has n_ids sequences.
void Context::give_branches_back(Place& place, int32_t n_ids) {
  while (place.n_ids() > n_ids) {
    llama_memory_seq_rm(memory(), place.ids.back(), -1, -1);
    branch_ids_.push_back(place.ids.back());
    place.ids.pop_back();
  }
}

}  // namespace ersd::llama
