// Grows a draft tree: the draft model runs once per level, and each node's children are the tokens
// that the method tries first.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "ersd/learning/correction.h"
#include "ersd/learning/cost.h"
#include "ersd/learning/margins.h"
#include "ersd/model/language_model.h"
#include "ersd/stats.h"
#include "ersd/tree/tree_shape.h"
#include "ersd/verify/coupling.h"
#include "ersd/verify/logits_processor.h"

namespace ersd {

class Drafter {
 public:
  // The model must outlive the drafter. Tokens from n_target_vocab on are never drafted: the target
  // has no such token.
  Drafter(LanguageModel& model, int32_t n_target_vocab)
      : model_(model), n_vocab_(std::min(model.n_vocab(), n_target_vocab)) {}

  // Adds to the tree, which has only its root, the nodes of the shape whose ranks the draft has.
  // Times and calls go to stats.
  void draft(std::span<const Token> history, const TreeShape& shape, Coupling& coupling,
             DraftTree& tree, Stats& stats);

  // Adds the nodes whose paths are probable enough by the margins of the realised race: about k on
  // average over many calls, at most 4 k, none deeper than max_depth. Deeper levels are drafted as
  // long as the tokens they promise are worth their time: worth is in tokens per millisecond, 0 for
  // levels without regard to time. For races only.
  void grow(std::span<const Token> history, int32_t k, int32_t max_depth, double worth,
            Coupling& coupling, MarginModel& margins, DraftTree& tree, Stats& stats);

  // Forgets how probable paths had to be for trees of k nodes.
  void forget() { threshold_nodes_ = 0; }

  // Runs the model at the root alone.
  void draft_root(std::span<const Token> history, const DraftTree& tree, Coupling& coupling,
                  Stats& stats);

  // The draft's logits at a node of the last tree, processed, f32[least of both vocabularies];
  // empty where the model was not run.
  std::span<const float> row(int32_t node) const {
    return kept_row(processing() ? processed_ : rows_, node);
  }
  // The same before processors.
  std::span<const float> raw_row(int32_t node) const { return kept_row(rows_, node); }

  // A correction for all rows but those of look(); null for none. It must outlive its use.
  void set_correction(const Correction* correction) { correction_ = correction; }

  // What shapes the rows; null for nothing. It must outlive its use.
  void set_processors(LogitsProcessorList* processors) { processors_ = processors; }

  // The order of the last tree's tokens at a node, as far as it was asked for.
  std::span<const Arrival> order(int32_t node) const;

  LanguageModel& model() { return model_; }
  CostCurve& cost() { return cost_; }

 private:
  void clear();
  static uint32_t child_position(std::span<const Token> history, const DraftTree& tree,
                                 int32_t node) {
    return static_cast<uint32_t>(history.size()) + static_cast<uint32_t>(tree.depth(node)) + 1;
  }
  void run(std::span<const Token> history, const DraftTree& tree, std::span<const int32_t> nodes,
           const Correction* correction, Coupling& coupling, Stats& stats);
  bool processing() const { return processors_ && processors_->processes_drafts(); }
  std::span<const Arrival> take_order(std::span<const Token> history, const DraftTree& tree,
                                      int32_t node, size_t m, Coupling& coupling);
  void process_rows(std::span<const Token> history, const DraftTree& tree,
                    std::span<const int32_t> nodes, Coupling& coupling);
  std::span<const float> kept_row(const std::vector<float>& rows, int32_t node) const;

  LanguageModel& model_;
  int32_t n_vocab_;
  CostCurve cost_;
  const Correction* correction_ = nullptr;
  LogitsProcessorList* processors_ = nullptr;
  std::vector<float> rows_;       // f32[n_rows, n_vocab], kept over the levels
  std::vector<float> processed_;  // the same, processed; unused where nothing shapes them
  std::vector<int32_t> row_of_;   // by tree node, -1 for none
  std::vector<int32_t> node_of_,
      expanded_;  // by shape node: its tree node or -1; the nodes of a level that have children
  std::vector<int32_t> first_child_;  // by shape node, into the shape; -1 for none
  size_t n_rows_ = 0;
  std::vector<Arrival> order_;       // of each node that was expanded, one after another,
  std::vector<size_t> begin_, end_;  // by tree node
  std::vector<double> path_,
      hits_;  // by tree node: the probability of its path; of the children of one node
  std::vector<int32_t> next_;    // nodes to expand at the next level
  double threshold_ = 0;         // path probability that a node of a grown tree needs,
  int32_t threshold_nodes_ = 0;  // for this k
};

}  // namespace ersd
