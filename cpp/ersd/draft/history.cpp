// Parts of a history.
#include "ersd/draft/history.h"

#include <memory>

namespace ersd {

void History::append(std::span<const Token> tokens) {
  if (n_part_ == 0 || tokens.empty()) return;
  const auto add = [&](Token token) {
    if (parts_.empty() || parts_.back()->size() >= n_part_) {
      if (parts_.size() == kParts) parts_.erase(parts_.begin());
      parts_.push_back(std::make_shared<TextSource>(Source::kHistory));
    }
    parts_.back()->append(token);
  };
  if (!parts_.empty()) add(kSeparator);
  for (const Token token : tokens) add(token);
}

std::vector<Token> History::tokens() const {
  std::vector<Token> tokens;
  for (const auto& part : parts_)
    for (int32_t place = 0; place < part->size(); ++place)
      tokens.push_back(part->automaton().token(place));
  return tokens;
}

}  // namespace ersd
