// Logits processors along the paths of a tree.
#include "ersd/verify/logits_processor.h"

#include <algorithm>

namespace ersd {

// Writes all tokens up to a node into history_. Committed tokens only grow until a shift, so those
// of the last call stay where they are.
std::span<const Token> LogitsProcessorList::write_history(std::span<const Token> committed,
                                                          const DraftTree& tree, int32_t node) {
  n_committed_ = std::min(n_committed_, committed.size());
  history_.resize(n_committed_);
  history_.insert(history_.end(), committed.begin() + static_cast<ptrdiff_t>(n_committed_),
                  committed.end());
  n_committed_ = committed.size();
  tree.path(node, path_);
  for (const int32_t i : path_) history_.push_back(tree.token(i));
  return history_;
}

std::span<const float> LogitsProcessorList::process_target(std::span<const Token> committed,
                                                           const DraftTree& tree, int32_t node,
                                                           std::span<const float> logits) {
  if (target_processors_.empty() && processors_.empty()) return logits;
  row_.assign(logits.begin(), logits.end());
  const auto history = write_history(committed, tree, node);
  for (const auto* processors : {&target_processors_, &processors_})
    for (const auto& processor : *processors) processor->process(history, row_);
  return row_;
}

void LogitsProcessorList::process_draft(std::span<const Token> committed, const DraftTree& tree,
                                        int32_t node, std::span<float> logits) {
  if (processors_.empty()) return;
  const auto history = write_history(committed, tree, node);
  for (const auto& processor : processors_) processor->process(history, logits);
}

Allowed LogitsProcessorList::allowed(std::span<const Token> committed, const DraftTree& tree,
                                     int32_t node) {
  if (!filter_) return {};
  write_history(committed, tree, node);
  return [this](std::span<const Token> tokens, std::span<uint8_t> allowed) {
    filter_->filter(history_, tokens, allowed);
  };
}

}  // namespace ersd
