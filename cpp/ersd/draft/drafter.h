// Drafts the trees of many sequences: the draft model runs once per level for all of them, and the
// children of a node are the first tokens of the draft's order there.
#pragma once

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "ersd/draft/drafted_tree.h"
#include "ersd/learning/cost.h"
#include "ersd/learning/path_threshold.h"
#include "ersd/model/language_model.h"

namespace ersd {

// What the time of calls is worth, for trees that grow while that pays.
struct Price {
  double tokens_per_ms = 0;                // the speed that decoding has otherwise
  const CostCurve* target_cost = nullptr;  // of the target's calls
  int32_t n_other_rows = 0;                // tokens of the target's next call beside these trees
};

class Drafter {
 public:
  // The model must outlive the drafter. Tokens from n_target_vocab on are never drafted, because
  // the target does not have them.
  Drafter(LanguageModel& model, int32_t n_target_vocab)
      : model_(model), n_vocab_(std::min(model.n_vocab(), n_target_vocab)) {}

  // Drafts all these trees, each as its `growth` says. Trees that grow while that pays share the
  // most valuable nodes between them: the next node is added wherever its path is most probable,
  // as long as the expected token is worth the time. They may stay roots.
  void draft(std::span<DraftedTree* const> trees, const Price& price);

  // Forgets which path probabilities trees of k nodes needed.
  void reset_thresholds() { thresholds_.clear(); }

  int32_t n_vocab() const { return n_vocab_; }  // tokens that both models have
  LanguageModel& model() { return model_; }
  CostCurve& cost() { return cost_; }

 private:
  // A drafted token that is not in its tree.
  struct Spare {
    double path;  // the probability of its path
    DraftedTree* tree;
    int32_t parent;
    Token token;
  };

  bool run_level(std::span<DraftedTree* const> trees, bool is_first);
  void keep_rows(DraftedTree& tree);
  void extend(DraftedTree& tree);
  void begin_shape(DraftedTree& tree);
  void add_shape_children(DraftedTree& tree, int32_t shape_node);
  void extend_shape(DraftedTree& tree);
  void begin_margins(DraftedTree& tree);
  void extend_by_margins(DraftedTree& tree);
  void add_spare_children(DraftedTree& tree);
  void predict_hits(DraftedTree& tree, int32_t node, std::span<const Arrival>& arrivals);
  std::span<const Arrival> keep_order(DraftedTree& tree, int32_t node, size_t m);
  void choose_level(size_t first, const Price& price);
  void choose_nodes(std::span<DraftedTree* const> trees, const Price& price);
  static int32_t move_into_tree(const Spare& spare);

  LanguageModel& model_;
  int32_t n_vocab_;
  CostCurve cost_;
  std::map<int32_t, PathThreshold> thresholds_;  // by k
  std::vector<Part> parts_;
  std::vector<Spare> spare_;
  std::vector<double> hits_;  // by arrival at one node: the probability that it wins
};

}  // namespace ersd
