// What the engine needs of a language model: it takes tokens, gives rows of logits, and caches the
// tokens that were accepted, for several sequences at once.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "ersd/tree/draft_tree.h"

namespace ersd {

// decode() throws it if the caller asked to stop. The committed tokens are still cached then.
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("generation was interrupted") {}
};

// What one sequence adds to a call.
struct Part {
  int32_t sequence = 0;             // the place whose cache the part extends
  std::span<const Token> history;   // i32[n], begins with the tokens that the place caches
  const DraftTree* tree = nullptr;  // the root's position is n
  // i32[m], in topological order. A node's parent must be decoded in this call or in an earlier
  // one since the last commit or rollback. Without nodes, history alone is decoded.
  std::span<const int32_t> nodes;
};

// What one sequence keeps of its tree: the path from the root to a node, as far as it is decoded;
// nothing if node is -1.
struct Accepted {
  int32_t sequence = 0;
  const DraftTree* tree = nullptr;
  int32_t node = -1;
};

// What the cache of a model can do with a drafted tree.
struct Abilities {
  // Whether a place can hold several continuations of its text. Otherwise each tree must be a
  // chain.
  bool branches = true;
  // How many of a call's last tokens can be dropped again. Where more are rejected, the model goes
  // back to where the call began, and reads the accepted tokens again with the next call.
  int32_t n_rollback = kMaxDraftNodes;
  int32_t max_depth = kMaxDraftNodes;  // of a tree
};

// A model has places for sequences, numbered from 0. Functions without a sequence mean place 0.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual int32_t n_vocab() const = 0;
  virtual int32_t n_ctx() const = 0;                     // positions of one sequence
  virtual int32_t n_sequences() const { return 1; }      // number of places
  virtual int32_t n_free() const = 0;                    // tokens that the cache has room for
  virtual int32_t n_batch() const { return 512; }        // tokens of a call while prompts are read
  virtual int32_t max_nodes() const { return 1 << 16; }  // of all trees of a call, with roots
  virtual int32_t max_branches() const { return kMaxDraftNodes; }  // see DraftTree::n_branches()

  // Takes more memory where that is needed for trees of n drafted nodes in one call; max_nodes()
  // and max_branches() say what came of it. No tree may be uncommitted.
  virtual void reserve_nodes(int32_t /*n*/) {}

  virtual Abilities abilities() const { return {}; }
  // How many of the committed tokens the place's next call reads again, see Abilities. Where they
  // are many, that call should be sure of what it reads, and have no drafted nodes.
  virtual int32_t n_read_again(int32_t /*sequence*/ = 0) const { return 0; }
  virtual bool must_catch_up(int32_t /*sequence*/ = 0) const { return false; }

  // The committed tokens of a place, which need not be decoded again; i32[n_cached]. Valid until
  // the next call that changes them.
  virtual std::span<const Token> cached(int32_t sequence = 0) const = 0;
  int32_t n_cached(int32_t sequence = 0) const {
    return static_cast<int32_t>(cached(sequence).size());
  }

  // Runs one call over some of the places: decodes the part of each history that is not cached,
  // then the nodes. If it throws, committed tokens stay cached, and commit() or rollback() must
  // follow in the places of the call.
  virtual void decode(std::span<const Part> parts) = 0;
  void decode(std::span<const Token> history, const DraftTree& tree,
              std::span<const int32_t> nodes) {
    const std::array<Part, 1> parts{{{0, history, &tree, nodes}}};
    decode(parts);
  }

  // The logits of a node of the last decode(); f32[n_vocab]. Valid until the next decode().
  virtual std::span<const float> logits(int32_t node, int32_t sequence = 0) const = 0;

  // Ends the trees of some places. All trees of the last decode() must end together, or be rolled
  // back, before the next step.
  virtual void commit(std::span<const Accepted> accepted) = 0;
  void commit(const DraftTree& tree, int32_t node) {
    const std::array<Accepted, 1> accepted{{{0, &tree, node}}};
    commit(accepted);
  }

  // Keeps the first n cached tokens of a place and drops the rest, an uncommitted tree included. A
  // model that cannot cut its cache there keeps fewer tokens or none. It may be called after an
  // exception.
  virtual void rollback(int32_t n, int32_t sequence = 0) = 0;

  // Lets an empty place take over the first n cached tokens of another one without decoding them.
  // Returns whether the model can do that.
  virtual bool share(int32_t from, int32_t to, int32_t n) = 0;

  // For measurements, while all other places are empty: fills place 0 with up to n tokens of no
  // meaning, much faster than a prompt of that length would. Returns how many it holds now. A model
  // that cannot do this returns 0 and leaves the place empty.
  virtual int32_t occupy(int32_t /*n*/) {
    rollback(0);
    return 0;
  }
};

}  // namespace ersd
