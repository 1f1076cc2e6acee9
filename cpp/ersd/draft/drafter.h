// Drafts the trees of many sequences. The draft model runs once per level for all of them; the
// children of a node are the first tokens of its order there, and what texts and grammars propose.
#pragma once

#include <algorithm>
#include <map>
#include <span>
#include <utility>
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
  // model: may be null; else it must outlive the drafter. Tokens from n_target_vocab on are never
  // drafted, because the target does not have them.
  Drafter(LanguageModel* model, int32_t n_target_vocab)
      : model_(model),
        n_vocab_(model ? std::min(model->n_vocab(), n_target_vocab) : n_target_vocab) {}

  // Drafts all these trees, each as its `growth` says. Trees that grow while that pays share the
  // most valuable nodes between them: the next node is added wherever its path is most probable,
  // as long as the expected token is worth the time. They may stay roots.
  void draft(std::span<DraftedTree* const> trees, const Price& price);

  // Forgets which path probabilities trees of k nodes needed, and whom to trust.
  void forget() { thresholds_.clear(), agreement_ = {}; }

  // Learns that a token came after a verified node at which the draft model ran: whether to trust
  // the model or the texts. Comes before the margins learn from the node.
  void learn_agreement(DraftedTree& tree, int32_t node, Token token);

  int32_t n_vocab() const { return n_vocab_; }  // tokens that both models have
  LanguageModel* model() { return model_; }
  CostCurve& cost() { return cost_; }
  const CostCurve& cost() const { return cost_; }

 private:
  // A drafted token that is not in its tree.
  struct Spare {
    double path;  // the probability of its path
    DraftedTree* tree;
    int32_t parent;
    Token token;
    Sources sources;
  };

  // What the target's next call is worth, while nodes are added to its trees.
  struct Worth {
    double tokens = 0;  // expected
    int32_t width = 0;  // tokens of the call
    double most = 0;    // the greatest worth so far
    int32_t best_width = 0;
  };

  void begin(DraftedTree& tree, const Price& price);
  bool run_level(std::span<DraftedTree* const> trees, bool is_first);
  void keep_rows(DraftedTree& tree);
  void extend(DraftedTree& tree);
  void begin_shape(DraftedTree& tree);
  void add_shape_children(DraftedTree& tree, int32_t shape_node);
  void extend_shape(DraftedTree& tree);
  PathThreshold& threshold(const DraftedTree& tree) {
    return thresholds_[{tree.k, tree.runs_model}];
  }
  void add_spares(DraftedTree& tree, int32_t node);
  void join(DraftedTree& tree, int32_t node);
  std::span<const Arrival> keep_order(DraftedTree& tree, int32_t node, size_t m);
  void choose_level(size_t first, const Price& price);
  size_t n_worth_running(std::span<const Spare> spare, const Price& price) const;
  void run_next(DraftedTree& tree, int32_t node, const Price& price);
  double gain_of_running(const DraftedTree& tree, int32_t node) const;
  void grow(std::span<DraftedTree* const> trees, const Price& price);
  bool takes(const Spare& spare);
  void keep_best(std::span<DraftedTree* const> trees, const Worth& worth, double without);
  static int32_t move_into_tree(const Spare& spare);

  LanguageModel* model_;
  int32_t n_vocab_;
  CostCurve cost_;
  // By k, and by whether the draft model takes part.
  std::map<std::pair<int32_t, bool>, PathThreshold> thresholds_;
  std::vector<Part> parts_;
  std::vector<Spare> spare_;
  AgreementModel agreement_;
  // At one node: what was proposed, with each opinion and the probability that it comes.
  std::vector<Candidate> candidates_;
  std::vector<AgreementModel::Opinion> opinions_;
  std::vector<double> hits_;
};

}  // namespace ersd
