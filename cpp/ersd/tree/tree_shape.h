// Shapes of draft trees: which ranks of the draft's order a strategy follows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ersd {

// A tree of ranks instead of tokens. A node of rank r stands for the r-th token of the draft's
// order at its parent. Nodes are stored level by level, siblings side by side and by rank.
struct TreeShape {
  std::vector<int32_t> parent, rank, depth;  // i32[k + 1]; node 0 is the root with parent -1

  int32_t size() const { return static_cast<int32_t>(parent.size()); }
  void reset();  // leaves the root alone
  int32_t add(int32_t parent_node, int32_t child_rank);
};

// Builds shapes. A shape is valid until the next one is built, because it uses the same memory.
class TreeShapeBuilder {
 public:
  const TreeShape& build_sequence(int32_t k, int32_t max_depth);  // a chain of k nodes
  const TreeShape& build_batch(int32_t k);                        // k children of the root

  // Builds the shape of k nodes with the most expected tokens when ranks are i.i.d.
  // probabilities: P(rank = r), f64[n_ranks]; the shape is the best one if they do not increase.
  // max_depth: no node is deeper than this.
  // Expected tokens per target call are 1 + the sum of the probabilities of all paths. So the best
  // shape has the k most probable paths. A max-heap finds them in O(k log k): pop the best node,
  // push its first child and its next sibling (Kobus and Gündüz, arXiv 2504.15475).
  const TreeShape& build_optimal(std::span<const double> probabilities, int32_t k,
                                 int32_t max_depth);

 private:
  struct Candidate {
    double path, parent_path;  // probabilities of the paths to the node and to its parent
    int32_t parent, rank;
    bool operator<(const Candidate& other) const { return path < other.path; }
  };
  void order_by_level();

  TreeShape shape_;
  TreeShape by_probability_;  // the optimal shape with the most probable nodes first
  std::vector<Candidate> heap_;
  // Working memory of order_by_level().
  std::vector<int32_t> children_, first_child_, source_;
};

// Expected tokens per target call if ranks are i.i.d. with these probabilities: 1 + the sum of the
// probabilities of all paths. path: working memory.
double expected_tokens(const TreeShape& shape, std::span<const double> probabilities,
                       std::vector<double>& path);

}  // namespace ersd
