// Drafting and verification in turn.
#include "ersd/decoder.h"

#include <algorithm>

#include "ersd/stopwatch.h"

namespace ersd {

Decoder::Decoder(LanguageModel& target, LanguageModel* draft) : target_(target) {
  if (draft) drafter_ = std::make_unique<Drafter>(*draft, target.n_vocab());
}

void Decoder::start(std::span<const Token> prompt, const GenerationOptions& options) {
  options_ = options;
  stats_ = {};
  tokens_.assign(prompt.begin(), prompt.end());
  const Stopwatch watch(stats_.prefill_ms);
  const std::span<const Token> history = std::span(tokens_).first(tokens_.size() - 1);
  const auto prefill = [&](LanguageModel& model) {
    model.rollback(0);
    model.decode(history, tree_, {});
  };
  prefill(target_);
  if (drafting()) prefill(drafter_->model());
}

TreeShape Decoder::shape(int32_t max_depth) const {
  const int32_t depth = std::min(max_depth, options_.draft_depth), k = depth > 0 ? options_.draft_nodes : 0;
  switch (options_.strategy) {
    case Strategy::kSimple:
      return sequence_shape(1, depth);
    case Strategy::kSequence:
      return sequence_shape(k, depth);
    case Strategy::kBatch:
      return batch_shape(k);
    case Strategy::kTree:
      break;
  }
  const auto probabilities = histogram_.probabilities();
  return optimal_shape(std::span(probabilities).first(RankHistogram::kRanks), k, depth);
}

std::span<const Token> Decoder::step(int32_t limit) {
  const std::span<const Token> history = std::span(tokens_).first(tokens_.size() - 1);
  const auto position = static_cast<uint32_t>(history.size());
  tree_.reset(tokens_.back());
  if (drafting()) drafter_->draft(history, shape(limit - 1), options_.sampling, options_.seed, tree_, stats_);

  for (auto n = static_cast<int32_t>(nodes_.size()); n < tree_.size(); ++n) nodes_.push_back(n);
  {
    const Stopwatch watch(stats_.target_ms);
    target_.decode(history, tree_, std::span(nodes_).first(tree_.size()));
  }
  {
    const Stopwatch watch(stats_.race_ms);
    verify(tree_, [&](int32_t node) { return target_.logits(node); }, options_.sampling, options_.seed, position, race_, verified_);
  }
  target_.commit(tree_, verified_.path.back());
  if (drafting()) drafter_->model().commit(tree_, verified_.path.back());
  count();
  return verified_.emitted;
}

void Decoder::count() {
  const size_t n_accepted = verified_.path.size() - 1;
  tokens_.insert(tokens_.end(), verified_.emitted.begin(), verified_.emitted.end());
  ++stats_.target_calls;
  stats_.generated += static_cast<int64_t>(n_accepted) + 1;
  stats_.accepted += static_cast<int64_t>(n_accepted);
  if (stats_.acceptance_histogram.size() <= n_accepted) stats_.acceptance_histogram.resize(n_accepted + 1);
  ++stats_.acceptance_histogram[n_accepted];
  for (size_t i = 0; drafting() && i < verified_.path.size(); ++i) {
    const int32_t rank = drafter_->rank(verified_.path[i], verified_.emitted[i]);
    if (rank < 0) continue;
    ++stats_.rank_histogram[static_cast<size_t>(rank)];
    histogram_.observe(static_cast<size_t>(rank));
  }
}

}  // namespace ersd
