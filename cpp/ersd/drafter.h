// Grows a draft tree: the draft model runs once per level, and each node's children are the first arrivals of its race.
#pragma once

#include <span>
#include <vector>

#include "ersd/language_model.h"
#include "ersd/options.h"
#include "ersd/race.h"

namespace ersd {

class Drafter {
 public:
  // The model must outlive the drafter. Tokens from n_target_vocab on are never drafted: the target has no such token.
  Drafter(LanguageModel& model, int32_t n_target_vocab) : model_(model), n_vocab_(std::min(model.n_vocab(), n_target_vocab)) {}

  // Adds to the tree, which has only its root, the nodes of the shape whose ranks arrive. Times and calls go to stats.
  void draft(std::span<const Token> history, const TreeShape& shape, const SamplingOptions& options, uint64_t seed, DraftTree& tree, Stats& stats);

  // The rank of a token in the draft's race order at a node, 0 the first, kRanks for all later; -1 where the draft did not look.
  int32_t rank(int32_t node, Token token) const;

  LanguageModel& model() { return model_; }

 private:
  LanguageModel& model_;
  int32_t n_vocab_;
  Race race_;
  std::vector<Token> order_;                 // the arrivals of each node that was expanded, one after another
  std::vector<int32_t> begin_, end_;         // by tree node, into order_
  std::vector<int32_t> node_of_, expanded_;  // by shape node: its tree node or -1; the nodes of a level that have children
  std::vector<int32_t> first_child_;         // by shape node, into the shape; -1 for none
};

}  // namespace ersd
