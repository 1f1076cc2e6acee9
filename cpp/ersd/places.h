// The places of both models' caches: who uses them, what idle ones keep for later prompts, and how
// many tokens still fit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/decode/sequence.h"
#include "ersd/model/language_model.h"

namespace ersd {

// The number of tokens that two texts have in common at their beginning.
int32_t n_common(std::span<const Token> a, std::span<const Token> b);

class Places {
 public:
  struct Options {
    // How many tokens the places of a model may cache together. A model may have more cells; those
    // are for draft trees.
    int32_t n_cells = 0;
    // Whether idle places of each model keep their tokens when a sequence takes another place. On a
    // CPU, llama.cpp's attention takes time for the cells of other places, unless it is flash
    // attention: then tokens that are kept for later make every call slower.
    bool target_keeps = true, draft_keeps = true;
  };

  // draft: may be null. All places must be empty.
  Places(LanguageModel& target, LanguageModel* draft, const Options& options);

  // Gives the sequence an idle place that caches as much of its tokens as possible: the one with
  // the longest common prefix if all of its tokens are used, else the idle place that was used
  // longest ago, which shares that prefix. Empties other idle places if cells are needed, and all
  // of them if they do not keep their tokens. n_spare: tokens that must fit beside all tokens of
  // the sequences that have places. Returns false if no place is idle or the cells do not suffice.
  // It succeeds if no place is used and n_spare is 0.
  bool take(Sequence& sequence, int32_t n_spare);

  // Ends the use of a sequence's place, which keeps its tokens.
  void leave(Sequence& sequence);

  // Whether the tokens that sequences with places have not cached yet fit into the cells, and
  // n_more others.
  bool fits(int32_t n_more = 0) const;

  // Empties the idle place that was used longest ago. Returns false if all idle places are empty.
  bool evict() { return evict_except(-1, -1); }

  // Empties all idle places.
  void clear_idle();

  // The most tokens at the beginning of a text that the target caches in one place.
  int32_t n_cached(std::span<const Token> text) const;

  bool can_share() const { return can_share_; }  // false once a model refused to
  bool is_used(int32_t place) const { return users_[static_cast<size_t>(place)] != nullptr; }
  int32_t last_used() const;  // the idle place that was used last; -1 for none
  int32_t n_free() const { return n_free(caches_.front()); }  // cells of the target

 private:
  struct Cache {
    LanguageModel* model;
    int32_t n_tree_cells;  // cells beyond those of the places
    bool keeps;            // whether idle places keep their tokens
  };

  int32_t size() const { return static_cast<int32_t>(users_.size()); }
  int32_t n_free(const Cache& cache) const { return cache.model->n_free() - cache.n_tree_cells; }
  int32_t find_source(std::span<const Token> history) const;
  int32_t choose(std::span<const Token> history, int32_t source) const;
  int32_t oldest_idle(int32_t except) const;
  bool fits_in(const Cache& cache, int32_t n_more) const;
  bool fits_with(std::span<const Token> tokens, int32_t holder, int32_t n_spare) const;
  bool evict_except(int32_t place, int32_t other);
  void cut(int32_t place, std::span<const Token> history);
  void clear(int32_t place);
  void drop_idle();
  void share(int32_t from, int32_t to, std::span<const Token> history);

  std::vector<Cache> caches_;           // the target's, then the draft's
  std::vector<const Sequence*> users_;  // by place; null for an idle one
  std::vector<int64_t> used_at_;        // by place: a count that grows with each use; 0 if empty
  int64_t n_uses_ = 0;
  int32_t n_cells_;
  bool can_share_ = true;
};

}  // namespace ersd
