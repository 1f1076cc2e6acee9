// One sequence's tree while it is drafted, with what the draft said at its nodes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/draft/draft_rows.h"
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

// How a tree grows.
enum class Growth {
  kNone,     // it stays a root, and the draft does not run
  kRead,     // it stays a root, and the draft reads some of the history
  kRoot,     // it stays a root, and the draft runs at the root, without its correction
  kShape,    // it follows a shape
  kMargins,  // it takes the nodes whose paths are probable enough by the margins of the races
  kWorth,    // it takes the nodes that are worth the time of their calls, as all such trees do
};

class DraftedTree {
 public:
  explicit DraftedTree(int32_t n_vocab) : rows(n_vocab) {}

  // Begins the next tree.
  void reset(Token root);

  // Adds a child, and returns it; -1 if the tree has as many nodes or branches as it may.
  int32_t add(int32_t parent, Token token);

  bool has_processors() const { return processors && processors->processes_drafts(); }

  // The draft at a node: its logits after correction and processors, f32[least of both
  // vocabularies], and the beginning of its order. Both are empty if the draft was not run there.
  DraftRow at(int32_t node) const {
    return {has_processors() ? rows.processed(node) : rows.raw(node), rows.order(node)};
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
  const Correction* correction = nullptr;  // added to the draft's logits; null for none
  MarginModel* margins = nullptr;
  Stats* stats = nullptr;  // calls, nodes and times are added to it
  Growth growth = Growth::kNone;
  const TreeShape* shape = nullptr;  // for kShape
  int32_t k = 0;                     // for kMargins: average number of nodes; at most 4 k
  int32_t max_depth = 0;             // no node is deeper than this
  // Limits: drafted nodes, and branches (see DraftTree::n_branches()).
  int32_t max_nodes = kMaxDraftNodes, max_branches = kMaxDraftNodes;

  DraftTree tree;
  DraftRows rows;

 private:
  friend class Drafter;
  std::vector<int32_t> level_, next_level_;  // nodes that the draft runs at
  std::vector<double> path_;                 // by node: the probability of its path
  // By node of the shape: its tree node, and its first child in the shape; -1 for none.
  std::vector<int32_t> node_of_, first_child_;
};

}  // namespace ersd
