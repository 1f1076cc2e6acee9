// One sequence's tree while it is drafted, with what the draft said at its nodes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/draft/draft_rows.h"
#include "ersd/draft/rejected_branches.h"
#include "ersd/draft/text_drafts.h"
#include "ersd/learning/agreement.h"
#include "ersd/learning/correction.h"
#include "ersd/learning/margins.h"
#include "ersd/stats.h"
#include "ersd/tree/tree_shape.h"
#include "ersd/verify/coupling.h"
#include "ersd/verify/logits_processor.h"

namespace ersd {

// Before the race at a node is seen, its best child is expected to win with at most this
// probability.
constexpr double kFirstHit = 0.8;

constexpr int32_t kMostTimesNodes = 4;  // a tree by margins has at most this many times k nodes

// How a tree grows.
enum class Growth {
  kNone,     // it stays a root, and the draft does not run
  kRead,     // it stays a root, and the draft reads some of the history
  kRoot,     // it stays a root, and the draft runs at the root, without its correction
  kShape,    // it follows a shape
  kMargins,  // it takes the nodes whose paths are probable enough by the margins of the races
  kBest,     // it takes the k most probable nodes
  kWorth,    // it takes the nodes that are worth the time of their calls, as all such trees do
};

class DraftedTree {
 public:
  explicit DraftedTree(int32_t n_vocab) : rows(n_vocab) {}

  // Begins the next tree.
  void reset(Token root);

  // Adds a child, and returns it; -1 if the tree has as many nodes or branches as it may.
  // path: the probability of its path, for trees that grow by it.
  int32_t add(int32_t parent, Token token, Sources sources = bit(Source::kModel), double path = 0);

  // Drops the nodes from n on, at which the draft must not have run.
  void truncate(int32_t n);

  // Whether the tree grows by the probabilities of paths.
  bool grows() const { return growth >= Growth::kMargins; }

  // What texts and the grammar propose as children of a node.
  std::span<const Candidate> text_candidates(int32_t node) const {
    const auto n = static_cast<size_t>(node);
    return std::span(candidates_).subspan(first_candidate_[n], n_candidates_[n]);
  }

  // How probable the likeliest of them is.
  double text_hit(int32_t node) const;

  double path(int32_t node) const { return path_[static_cast<size_t>(node)]; }

  bool has_processors() const { return processors && processors->processes_drafts(); }

  // The draft at a node: its logits after correction and processors, f32[least of both
  // vocabularies], and the beginning of its order. Both are empty if the draft was not run there.
  DraftRow at(int32_t node) const {
    return {has_processors() ? rows.processed(node) : rows.raw(node), rows.order(node)};
  }

  // The token before that of a node; -1 at the beginning of the text.
  Token token_before(int32_t node) const {
    if (node > 0) return tree.token(tree.parent(node));
    return history.empty() ? -1 : history.back();
  }

  // The position in the text of a node's children.
  uint32_t child_position(int32_t node) const {
    return static_cast<uint32_t>(history.size()) + static_cast<uint32_t>(tree.depth(node)) + 1;
  }

  // What the caller sets before the tree is drafted.
  int32_t place = 0;               // of the sequence in both models
  std::span<const Token> history;  // committed tokens before the root, i32[n]
  Coupling* coupling = nullptr;    // gives the draft's order
  LogitsProcessorList* processors = nullptr;
  const Correction* correction = nullptr;      // added to the draft's logits; null for none
  const RejectedBranches* rejected = nullptr;  // likewise
  MarginModel* margins = nullptr;
  Stats* stats = nullptr;  // calls, nodes and times are added to it
  Growth growth = Growth::kNone;
  bool runs_model = true;            // whether the draft model takes part
  TextDrafts* texts = nullptr;       // what takes part where the tree grows; null for none
  const HitRates* rates = nullptr;   // of what the texts propose
  bool follows_grammar = false;      // whether the grammar takes part
  const TreeShape* shape = nullptr;  // for kShape
  int32_t k = 0;                     // for kMargins: average number of nodes; at most 4 k. For
                                     // kBest: the number of nodes
  int32_t max_depth = 0;             // no node is deeper than this
  // Limits: drafted nodes, and branches (see DraftTree::n_branches()).
  int32_t max_nodes = kMaxDraftNodes, max_branches = kMaxDraftNodes;

  DraftTree tree;
  DraftRows rows;

 private:
  friend class Drafter;

  void propose(int32_t node);
  void apply_grammar(int32_t node);

  std::vector<int32_t> level_, next_level_;  // nodes that the draft runs at
  std::vector<double> path_;                 // by node: the probability of its path
  int32_t best_size_ = 1;                    // nodes with which the target's call is worth most
  // By node: its candidates of texts and grammar in candidates_.
  std::vector<size_t> first_candidate_, n_candidates_;
  std::vector<Candidate> candidates_, proposed_;
  std::vector<Token> allowed_;  // by the grammar at one node
  // By node of the shape: its tree node, and its first child in the shape; -1 for none.
  std::vector<int32_t> node_of_, first_child_;
};

}  // namespace ersd
