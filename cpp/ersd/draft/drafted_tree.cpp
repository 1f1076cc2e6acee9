// The tree and its limits.
#include "ersd/draft/drafted_tree.h"

namespace ersd {

void DraftedTree::reset(Token root) {
  tree.reset(root);
  rows.clear();
  level_.assign(1, 0);
  path_.assign(1, 1.0);
}

int32_t DraftedTree::add(int32_t parent, Token token) {
  if (tree.n_drafted() >= max_nodes) return -1;
  if (tree.n_branches() >= max_branches && tree.has_child(parent)) return -1;
  return tree.add(parent, token);
}

}  // namespace ersd
