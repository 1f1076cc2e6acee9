// The beginning of a generation, and its tree shapes.
#include "ersd/decode/sequence.h"

#include <algorithm>
#include <utility>

namespace ersd {

Sequence::Sequence(std::span<const Token> prompt, const GenerationOptions& options,
                   LogitsProcessorList processors, const LanguageModel& target,
                   const LanguageModel* draft)
    : options_(options),
      processors_(std::move(processors)),
      n_ctx_(target.n_ctx()),
      has_draft_(draft != nullptr),
      drafted_(std::min(target.n_vocab(), draft ? draft->n_vocab() : target.n_vocab())) {
  tokens_.reserve(static_cast<size_t>(n_ctx_) + 1);
  tokens_.assign(prompt.begin(), prompt.end());
  adapt_to(target.abilities());
  if (draft) adapt_to(draft->abilities());
  stats_.strategy = to_string(options_.strategy);
  coupling_.reset(options.method, options.sampling, options.seed);
  if (!is_race(options.method)) knowledge_ = std::make_unique<DraftKnowledge>();
  for (auto* counts : {&stats_.acceptance_histogram, &stats_.nodes_histogram})
    counts->reserve(kMaxDraftNodes + 1);
}

// Chooses the nearest strategy that the model can do.
void Sequence::adapt_to(const Abilities& abilities) {
  if (!abilities.branches && options_.strategy != Strategy::kSimple)
    options_.strategy = Strategy::kSequence;
  options_.draft_depth = std::min(options_.draft_depth, abilities.max_depth);
}

int32_t Sequence::fixed_nodes() const {
  if (!drafts() || options_.draft_nodes == kAuto) return 0;
  const bool varies = options_.strategy == Strategy::kAdaptive;
  return varies ? kMostTimesNodes * options_.draft_nodes : options_.draft_nodes;
}

// Makes the shape of the strategy in use, or returns the last one if it is the same.
const TreeShape& Sequence::make_shape(int32_t k, int32_t max_depth) {
  if (shape_ && shape_nodes_ == k && shape_depth_ == max_depth) return *shape_;
  shape_nodes_ = k, shape_depth_ = max_depth;
  if (max_depth < 1) k = 0;
  switch (options_.strategy) {
    case Strategy::kSimple:
      return *(shape_ = &shapes_.build_sequence(std::min(k, 1), max_depth));
    case Strategy::kSequence:
      return *(shape_ = &shapes_.build_sequence(k, max_depth));
    case Strategy::kBatch:
      return *(shape_ = &shapes_.build_batch(k));
    case Strategy::kTree:
    case Strategy::kAdaptive:
      break;
  }
  const auto ranks = std::span(ranks_).first(RankHistogram::kRanks);
  return *(shape_ = &shapes_.build_optimal(ranks, k, max_depth));
}

}  // namespace ersd
