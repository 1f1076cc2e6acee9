// What the decoder needs of a language model: it takes tokens, gives rows of logits, and caches the
// tokens that were accepted.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "ersd/tree/draft_tree.h"

namespace ersd {

// decode() throws it if the caller asked to stop. After rollback() the model is usable again.
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("generation was interrupted") {}
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual int32_t n_vocab() const = 0;
  virtual int32_t n_ctx() const = 0;  // number of positions

  // The committed tokens, which need not be decoded again; i32[n_cached]. Valid until the next call
  // that changes them.
  virtual std::span<const Token> cached() const = 0;
  int32_t n_cached() const { return static_cast<int32_t>(cached().size()); }

  // Runs one call: it decodes the part of history that is not cached, then some nodes of the tree.
  // history: i32[n]; it begins with the cached tokens, and the root's position is n.
  // nodes: i32[m], in topological order. A node's parent must be decoded in this call or in an
  //   earlier one since the last commit or rollback.
  virtual void decode(std::span<const Token> history, const DraftTree& tree,
                      std::span<const int32_t> nodes) = 0;

  // The logits of a node of the last decode(); f32[n_vocab]. Valid until the next decode().
  virtual std::span<const float> logits(int32_t node) const = 0;

  // Keeps the path from the root to a node, as far as it is decoded, and drops the rest of the
  // tree.
  virtual void commit(const DraftTree& tree, int32_t node) = 0;

  // Keeps the first n cached tokens and drops the rest, an uncommitted tree included. A model that
  // cannot cut its cache there keeps fewer tokens or none. It may be called after an exception.
  virtual void rollback(int32_t n) = 0;

  // For measurements: fills the cache with up to n tokens of no meaning, much faster than a prompt
  // of that length would. Returns how many it holds now. A model that cannot do this returns 0 and
  // leaves the cache empty.
  virtual int32_t occupy(int32_t /*n*/) {
    rollback(0);
    return 0;
  }
};

}  // namespace ersd
