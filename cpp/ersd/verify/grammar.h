// Grammars: which tokens may follow an answer so far. The core knows no language in which grammars
// are written; whoever uses it brings an implementation.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "ersd/tree/draft_tree.h"

namespace ersd {

// A set of tokens, a bit for each: token t is bit t % 32 of word t / 32. u32[ceil(n_vocab / 32)].
using TokenMask = std::span<const uint32_t>;

constexpr size_t kMaskBits = 32;  // tokens of one word

// Whether a token is in the set. Tokens that the mask does not cover are not.
inline bool is_in(TokenMask mask, Token token) {
  const auto word = static_cast<size_t>(token) / kMaskBits;
  return token >= 0 && word < mask.size() &&
         (mask[word] >> (static_cast<size_t>(token) % kMaskBits) & 1U) != 0;
}

// Writes the tokens of a set that has at most `most`; nothing for a larger set.
void list_tokens(TokenMask mask, size_t most, std::vector<Token>& out);

// Follows one answer through a grammar. One thread at a time.
class GrammarMatcher {
 public:
  virtual ~GrammarMatcher() = default;

  // Writes which tokens may follow the committed tokens and then these ones. They are tokens that
  // masks allowed. After an end token every token may follow, because the answer has ended.
  virtual void write_mask(std::span<const Token> path, std::span<uint32_t> mask) = 0;

  // Appends tokens to the committed ones, which no later call takes back.
  virtual void commit(std::span<const Token> tokens) = 0;
};

// What an answer may be. Any number of answers may follow it, in many threads.
class Grammar {
 public:
  virtual ~Grammar() = default;

  // Begins an answer.
  virtual std::unique_ptr<GrammarMatcher> start() const = 0;
};

// The masks of a grammar along the paths of draft trees. Each is computed once, when it is first
// asked for, so that draft and target share the mask of a node. Memory is used again.
class GrammarMasks {
 public:
  // n_prompt is the number of tokens before the answer.
  // lengths: how many bytes each token has, u8[n_vocab]; empty if it is not known. It must outlive
  //   the masks.
  GrammarMasks(std::unique_ptr<GrammarMatcher> matcher, size_t n_prompt, int32_t n_vocab,
               std::span<const uint8_t> lengths = {})
      : matcher_(std::move(matcher)),
        lengths_(lengths),
        n_committed_(n_prompt),
        n_words_((static_cast<size_t>(n_vocab) + kMaskBits - 1) / kMaskBits) {}

  // Returns the tokens that may follow a history, which begins with all committed tokens. Valid
  // until commit().
  TokenMask after(std::span<const Token> history);

  // The number of bytes of a token; 0 if it is not known.
  int32_t length(Token token) const {
    const auto i = static_cast<size_t>(token);
    return i < lengths_.size() ? lengths_[i] : 0;
  }

  // Says that every later history begins with this one.
  void commit(std::span<const Token> history);

  // Says that a context shift removed n committed tokens from all later histories.
  void shift(size_t n) { n_committed_ -= n; }

 private:
  struct Before {
    using is_transparent = void;
    bool operator()(std::span<const Token> a, std::span<const Token> b) const {
      return std::ranges::lexicographical_compare(a, b);
    }
  };
  using Masks = std::map<std::vector<Token>, std::vector<uint32_t>, Before>;

  std::unique_ptr<GrammarMatcher> matcher_;
  std::span<const uint8_t> lengths_;
  size_t n_committed_, n_words_;
  Masks masks_;                          // by the tokens after the committed ones
  std::vector<Masks::node_type> spare_;  // of earlier paths
};

// Replaces the logits of all tokens that are not in the mask by -infinity. The mask covers at least
// logits.size() tokens. Throws std::runtime_error if no token in the mask has a probability.
void mask_logits(std::span<float> logits, TokenMask mask);

// A copy of rows under masks. Where a mask and the one before it allow no token, nothing is read or
// written, so that a row costs what its mask allows.
class MaskedRow {
 public:
  // Returns the row, f32[logits.size()], with -infinity for all tokens that are not in the mask.
  // It is valid until the next call. Throws as mask_logits() does.
  std::span<const float> mask(std::span<const float> logits, TokenMask mask);

 private:
  std::vector<float> row_;      // f32[n_vocab]
  std::vector<uint32_t> mask_;  // the last mask; the row is -infinity outside of it
};

}  // namespace ersd
