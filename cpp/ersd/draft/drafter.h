// Drafts a tree: the draft model runs once per level, and the children of a node are the first
// tokens of the draft's order there.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "ersd/draft/draft_rows.h"
#include "ersd/learning/correction.h"
#include "ersd/learning/cost.h"
#include "ersd/learning/margins.h"
#include "ersd/learning/path_threshold.h"
#include "ersd/model/language_model.h"
#include "ersd/stats.h"
#include "ersd/tree/tree_shape.h"
#include "ersd/verify/coupling.h"
#include "ersd/verify/logits_processor.h"

namespace ersd {

class Drafter {
 public:
  // The step that a tree is drafted for.
  struct Request {
    std::span<const Token> history;  // committed tokens before the root, i32[n]
    Coupling& coupling;              // gives the draft's order
    DraftTree& tree;                 // holds the root; drafted nodes are added to it
    Stats& stats;                    // calls, nodes and times are added to it
  };

  // How a tree grows by race margins.
  struct Growth {
    int32_t k;          // average number of nodes; a tree has at most 4 k
    int32_t max_depth;  // no node is deeper than this
    // A level is drafted only if it promises at least this many tokens per millisecond.
    double min_tokens_per_ms;
    // The tree is filled up to the widest call that costs hardly more; null for no filling.
    const CostCurve* target_cost;
  };

  // The model must outlive the drafter. Tokens from n_target_vocab on are never drafted, because
  // the target does not have them.
  Drafter(LanguageModel& model, int32_t n_target_vocab)
      : model_(model), n_vocab_(std::min(model.n_vocab(), n_target_vocab)), rows_(n_vocab_) {}

  // Drafts a shape. Ranks that the draft's order does not have are left out.
  void draft(const Request& request, const TreeShape& shape);

  // Grows the tree of the nodes whose paths are probable enough by the margins of the draft's
  // races. For methods of races only.
  void grow(const Request& request, const Growth& growth, MarginModel& margins);

  // Runs the model at the root alone, without the correction.
  void run_root(const Request& request);

  // Forgets which path probability trees of k nodes needed.
  void reset_threshold() { threshold_.reset(); }

  // The draft at a node of the last tree: its logits after correction and processors,
  // f32[least of both vocabularies], and the beginning of its order.
  DraftRow at(int32_t node) const {
    return {has_processors() ? rows_.processed(node) : rows_.raw(node), rows_.order(node)};
  }

  // The draft's logits at a node of the last tree after correction and before processors; empty if
  // the model was not run at the node.
  std::span<const float> raw_logits(int32_t node) const { return rows_.raw(node); }

  // The correction that is added to the draft's logits, and the processors that change them after
  // that; null for none. The drafter keeps the pointers.
  void set_correction(const Correction* correction) { correction_ = correction; }
  void set_processors(LogitsProcessorList* processors) { processors_ = processors; }

  LanguageModel& model() { return model_; }
  CostCurve& cost() { return cost_; }

 private:
  bool has_processors() const { return processors_ && processors_->processes_drafts(); }
  void begin_shape(const TreeShape& shape);
  void add_children(const Request& request, const TreeShape& shape, int32_t shape_node);
  void add_probable_children(const Request& request, int32_t node, int32_t most,
                             MarginModel& margins);
  double promised_tokens() const;
  void fill(const Request& request, int32_t n_nodes);
  void run(const Request& request, std::span<const int32_t> nodes, const Correction* correction);
  void process(const Request& request, int32_t node);
  std::span<const Arrival> keep_order(const Request& request, int32_t node, size_t m);

  LanguageModel& model_;
  int32_t n_vocab_;  // tokens that both models have
  CostCurve cost_;
  const Correction* correction_ = nullptr;
  LogitsProcessorList* processors_ = nullptr;
  DraftRows rows_;
  PathThreshold threshold_;
  std::vector<int32_t> level_, next_level_;  // tree nodes that the model runs at
  // By shape node: its tree node, and its first child in the shape; -1 for none.
  std::vector<int32_t> node_of_, first_child_;
  // Children that were not probable enough for the tree.
  struct Spare {
    double path;
    int32_t parent;
    Token token;
  };
  std::vector<Spare> spare_;
  std::vector<double> path_;  // by tree node: the probability of its path
  std::vector<double> hits_;  // by arrival at one node: the probability that it wins
};

}  // namespace ersd
