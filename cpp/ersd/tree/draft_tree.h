// Draft trees: the tokens that the target checks in one call.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/token.h"

namespace ersd {

constexpr int32_t kMaxDraftNodes = 256;

// A tree as flat arrays in topological order. Node 0, the root, is the last committed token; the
// other nodes are drafted tokens that may follow it.
class DraftTree {
 public:
  explicit DraftTree(Token root = 0) { reset(root); }
  void reset(Token root);

  // Appends a child and returns its index. Throws std::out_of_range if there is no such parent.
  // sources: a bit for each source that proposed it.
  int32_t add(int32_t parent, Token token, uint8_t sources = 0);

  // Drops the nodes from n on, 1 or more.
  void truncate(int32_t n);

  int32_t size() const { return static_cast<int32_t>(token_.size()); }
  int32_t n_drafted() const { return size() - 1; }
  // Nodes that are not the first child of their parent: how many leaves the tree has beyond one.
  int32_t n_branches() const { return n_branches_; }
  bool has_child(int32_t node) const { return first_child_[node] >= 0; }
  Token token(int32_t node) const { return token_[node]; }
  int32_t parent(int32_t node) const { return parent_[node]; }  // -1 for the root
  int32_t depth(int32_t node) const { return depth_[node]; }    // 0 for the root
  uint8_t sources(int32_t node) const { return sources_[node]; }

  // The first child of a node with this token, or -1.
  int32_t child(int32_t node, Token token) const;

  // Writes the nodes from the root to a node, both included, into `path`.
  void path(int32_t node, std::vector<int32_t>& path) const;

  std::span<const Token> tokens() const { return token_; }       // i32[size]
  std::span<const int32_t> parents() const { return parent_; }   // i32[size]
  std::span<const uint8_t> sources() const { return sources_; }  // u8[size]

 private:
  std::vector<Token> token_;
  std::vector<uint8_t> sources_;
  std::vector<int32_t> parent_, depth_, first_child_, last_child_, next_sibling_;  // -1 for none
  int32_t n_branches_ = 0;
};

}  // namespace ersd
