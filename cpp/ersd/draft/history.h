// What earlier requests said and read, for later ones to draft from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/draft/text_drafts.h"

namespace ersd {

// A text that is bounded by its number of tokens. It is kept in parts; when it is full, the oldest
// part goes.
class History {
 public:
  explicit History(int32_t n_tokens = 0) : n_part_((n_tokens + kParts - 1) / kParts) {}

  // The end of a text and the beginning of the next are never taken for a text of their own.
  void append(std::span<const Token> tokens);

  // The parts. They may grow while somebody drafts from them, and live as long as somebody does.
  const TextDrafts::Texts& texts() const { return parts_; }

  // The tokens, the oldest first; texts are separated by -1.
  std::vector<Token> tokens() const;

  void clear() { parts_.clear(); }

 private:
  static constexpr int32_t kParts = 4;
  static constexpr Token kSeparator = -1;

  int32_t n_part_;  // tokens of a part
  TextDrafts::Texts parts_;
};

}  // namespace ersd
