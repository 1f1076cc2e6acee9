// Shapes of draft trees: how the drafting strategies lay out their nodes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ersd {

// A shape: which ranks of the draft's race order to follow at each node. Parents come before
// children and levels in order.
struct TreeShape {
  std::vector<int32_t> parent, rank, depth;  // i32[k + 1]; node 0 is the root with parent -1

  int32_t size() const { return static_cast<int32_t>(parent.size()); }
  void reset();  // to the root alone
  int32_t add(int32_t parent_node, int32_t child_rank);
};

// Makes shapes, in memory that it keeps from one to the next. Each is valid until the next.
class TreeShapeBuilder {
 public:
  const TreeShape& sequence(int32_t k, int32_t max_depth);  // a chain of k nodes
  const TreeShape& batch(int32_t k);                        // k children of the root

  // The k nodes whose paths are most probable when ranks are i.i.d. with these probabilities, by a
  // max-heap in O(k log k): pop the best, push its first child and its next sibling (Kobus and
  // Gündüz, arXiv 2504.15475). Expected tokens per target call are 1 + the sum of the path
  // products. probabilities: f64[ranks], non-increasing for the optimum; no node is deeper than
  // max_depth.
  const TreeShape& optimal(std::span<const double> probabilities, int32_t k, int32_t max_depth);

 private:
  struct Candidate {
    double path, parent_path;
    int32_t parent, rank;
    bool operator<(const Candidate& other) const { return path < other.path; }
  };
  void order_by_level();

  TreeShape shape_, grown_;  // grown_: in the order of their probability
  std::vector<Candidate> heap_;
  std::vector<int32_t> by_parent_, first_, source_;
};

// The sum of path products of a shape, plus one: its expected tokens per target call for i.i.d.
// ranks. path: working memory.
double expected_tokens(const TreeShape& shape, std::span<const double> probabilities,
                       std::vector<double>& path);

}  // namespace ersd
