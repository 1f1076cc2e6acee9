// What the target said in branches that were rejected, of positions that the text has yet to reach.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/learning/correction.h"
#include "ersd/tree/draft_tree.h"

namespace ersd {

// A rejected branch tells how wrong the draft was at a position whose context differs from the
// text's in few tokens, often in one. The draft is as wrong there in the text, mostly. So half of
// the difference is added to the draft's logits at the same position of later trees.
class RejectedBranches {
 public:
  void clear();

  // Begins with another tree, and forgets positions before this one.
  void begin(uint32_t position);

  // Remembers how the models differ at a rejected node.
  // position: of the token that would follow; before, token: the last two tokens of its path.
  void add(uint32_t position, Token before, Token token,
           std::span<const Correction::Difference> differences);

  // Adds half of the differences that were seen at a position to a row of the draft's logits there,
  // f32[n_vocab]. Of several branches, that with the same last two tokens counts, else one with
  // the same last token, else any. Of equally near ones, the first one of the last tree counts.
  void correct(uint32_t position, Token before, Token token, std::span<float> row) const;

 private:
  struct Node {
    uint32_t position;
    int32_t n_trees;  // that came before its tree
    Token before, token;
    size_t end;  // of its differences; they begin where those of the node before end
  };
  // The differences of a node.
  std::span<const Correction::Difference> of(size_t node) const {
    const size_t first = node == 0 ? 0 : nodes_[node - 1].end;
    return std::span(differences_).subspan(first, nodes_[node].end - first);
  }

  std::vector<Node> nodes_, kept_;  // kept_ is working memory
  std::vector<Correction::Difference> differences_;
  int32_t n_trees_ = 0;
};

}  // namespace ersd
