// Rows shaped along the paths of a tree.
#include "ersd/verify/logits_processor.h"

#include <algorithm>

namespace ersd {

std::span<const Token> LogitsProcessorList::history(std::span<const Token> committed,
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

std::span<const float> LogitsProcessorList::target(std::span<const Token> committed,
                                                   const DraftTree& tree, int32_t node,
                                                   std::span<const float> logits) {
  if (target_processors_.empty() && processors_.empty()) return logits;
  row_.assign(logits.begin(), logits.end());
  const auto before = history(committed, tree, node);
  for (const auto* processors : {&target_processors_, &processors_})
    for (const auto& processor : *processors) processor->process(before, row_);
  return row_;
}

void LogitsProcessorList::draft(std::span<const Token> committed, const DraftTree& tree,
                                int32_t node, std::span<float> logits) {
  if (processors_.empty()) return;
  const auto before = history(committed, tree, node);
  for (const auto& processor : processors_) processor->process(before, logits);
}

Allowed LogitsProcessorList::allowed(std::span<const Token> committed, const DraftTree& tree,
                                     int32_t node) {
  if (!filter_) return {};
  history(committed, tree, node);
  return [this](std::span<const Token> tokens, std::span<uint8_t> allowed) {
    filter_->filter(history_, tokens, allowed);
  };
}

}  // namespace ersd
