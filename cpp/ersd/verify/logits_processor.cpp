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
  const bool processes = !target_processors_.empty() || !processors_.empty();
  if (!processes && !masks_) return logits;
  const auto history = write_history(committed, tree, node);
  if (processes) {
    row_.assign(logits.begin(), logits.end());
    for (const auto* processors : {&target_processors_, &processors_})
      for (const auto& processor : *processors) processor->process(history, row_);
    logits = row_;
  }
  return masks_ ? masked_row_.mask(logits, masks_->after(history)) : logits;
}

void LogitsProcessorList::process_draft(std::span<const Token> committed, const DraftTree& tree,
                                        int32_t node, std::span<float> logits) {
  if (!processes_drafts()) return;
  const auto history = write_history(committed, tree, node);
  for (const auto& processor : processors_) processor->process(history, logits);
  if (masks_) mask_logits(logits, masks_->after(history));
}

}  // namespace ersd
