// What the decoder needs of a language model: tokens in, a row of logits out, and a cache that
// keeps what was accepted.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "ersd/tree/draft_tree.h"

namespace ersd {

// Thrown from decode() when the caller asked to stop; the model stays usable after rollback().
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("generation was interrupted") {}
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual int32_t n_vocab() const = 0;
  virtual int32_t n_ctx() const = 0;  // positions, 0 to n_ctx - 1

  // The committed tokens, which need no decoding any more; valid until the next call that changes
  // them.
  virtual std::span<const Token> cached() const = 0;
  int32_t n_cached() const { return static_cast<int32_t>(cached().size()); }

  // One call: the part of history that is not cached (the cached tokens are its beginning), then
  // the given nodes of the tree, whose root stands at position history.size(). Nodes come in
  // topological order; a node's parent is decoded in this call or an earlier one since the last
  // commit or rollback.
  virtual void decode(std::span<const Token> history, const DraftTree& tree,
                      std::span<const int32_t> nodes) = 0;

  // Logits of a node of the last decode(), valid until the next; f32[n_vocab].
  virtual std::span<const float> logits(int32_t node) const = 0;

  // Keeps the path from the root to this node, as far as it is decoded, and forgets the rest of the
  // tree.
  virtual void commit(const DraftTree& tree, int32_t node) = 0;

  // Keeps the first n cached tokens, fewer or none where the model cannot cut its cache there, and
  // forgets the rest, an uncommitted tree included. Right also after a call that threw.
  virtual void rollback(int32_t n) = 0;
};

}  // namespace ersd
