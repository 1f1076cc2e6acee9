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
  coupling_.reset(options.method, options.sampling, options.seed);
  stats_ = {};
  tokens_.assign(prompt.begin(), prompt.end());
  const Stopwatch watch(stats_.prefill_ms);
  const auto prefill = [&](LanguageModel& model) {
    model.rollback(0);
    model.decode(history(), tree_, {});
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
  const auto probabilities = histogram().probabilities();
  return optimal_shape(std::span(probabilities).first(RankHistogram::kRanks), k, depth);
}

std::span<const Token> Decoder::step(int32_t limit) {
  tree_.reset(tokens_.back());
  if (drafting()) drafter_->draft(history(), shape(limit - 1), coupling_, tree_, stats_);
  check();
  commit();
  return verified_.emitted;
}

Ranked Decoder::observe() {
  tree_.reset(tokens_.back());
  drafter_->look(history(), tree_, stats_);
  check();
  commit();
  return {verified_.emitted.front(), verified_.rank.front()};
}

void Decoder::check() {
  for (auto n = static_cast<int32_t>(nodes_.size()); n < tree_.size(); ++n) nodes_.push_back(n);
  {
    const Stopwatch watch(stats_.target_ms);
    target_.decode(history(), tree_, std::span(nodes_).first(tree_.size()));
  }
  const Stopwatch watch(stats_.race_ms);
  const auto draft = [&](int32_t node) { return drafting() ? drafter_->row(node) : std::span<const float>(); };
  verify(tree_, [&](int32_t node) { return target_.logits(node); }, draft, static_cast<uint32_t>(history().size()), coupling_, verified_);
}

void Decoder::commit() {
  target_.commit(tree_, verified_.path.back());
  if (drafting()) drafter_->model().commit(tree_, verified_.path.back());
  const size_t n_accepted = verified_.path.size() - 1;
  tokens_.insert(tokens_.end(), verified_.emitted.begin(), verified_.emitted.end());
  ++stats_.target_calls;
  stats_.generated += static_cast<int64_t>(n_accepted) + 1;
  stats_.accepted += static_cast<int64_t>(n_accepted);
  if (stats_.acceptance_histogram.size() <= n_accepted) stats_.acceptance_histogram.resize(n_accepted + 1);
  ++stats_.acceptance_histogram[n_accepted];
  for (const int32_t rank : verified_.rank) {
    if (rank < 0) continue;
    ++stats_.rank_histogram[std::min<size_t>(rank, RankHistogram::kRanks)];
    histograms_[static_cast<size_t>(options_.method)].observe(static_cast<size_t>(rank));
  }
}

}  // namespace ersd
