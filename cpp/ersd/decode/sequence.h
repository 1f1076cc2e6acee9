// One generation under way: its tokens, its options, its random numbers, and what its last step
// brought. What belongs to the models is in the Engine.
#pragma once

#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "ersd/decode/options.h"
#include "ersd/draft/drafted_tree.h"
#include "ersd/learning/draft_controller.h"
#include "ersd/learning/profile.h"
#include "ersd/race/logprobs.h"
#include "ersd/stats.h"
#include "ersd/verify/verify.h"

namespace ersd {

class Sequence {
 public:
  // prompt: i32[n], at least one token, and less than the context has.
  // processors: those that options.processors asks for.
  // draft: null without a draft model.
  Sequence(std::span<const Token> prompt, const GenerationOptions& options,
           LogitsProcessorList processors, const LanguageModel& target, const LanguageModel* draft);

  // The place that caches the sequence in both models. The caller chooses one that no other
  // sequence uses, and calls Engine::begin().
  void set_place(int32_t place) { place_ = place; }
  int32_t place() const { return place_; }

  // The most tokens that the next step may bring, at least 1.
  void set_limit(int32_t limit) { limit_ = limit; }

  // Makes steps bring one token and its rank in the draft's order. Such ranks tell what any tree
  // would have given. Needs a draft.
  void want_ranks() { wants_ranks_ = true; }

  // The tokens of the last step, and their log-probabilities if the options ask for them. Empty
  // while the prompt is being read. Valid until the next step.
  std::span<const Token> emitted() const { return verified_.emitted; }
  std::span<const TokenLogprob> logprobs() const { return logprobs_; }

  // The tree of the last step, and its accepted nodes from the root on.
  const DraftTree& tree() const { return drafted_.tree; }
  std::span<const int32_t> accepted() const { return verified_.path; }

  // With want_ranks(): the rank of the last step's token, and the logits there, f32[n_vocab] and
  // f32[least of both vocabularies].
  int32_t rank() const { return verified_.rank.front(); }
  std::span<const float> target_row() const { return target_row_; }
  std::span<const float> draft_row() const { return draft_row_; }

  // Why the sequence cannot go on, such as an error in a logits processor; null if it can. Other
  // sequences are not concerned. The tokens so far are right.
  std::exception_ptr failure() const { return failure_; }

  // Whether it matters to the sequence what calls cost: whether it may draft as much as pays.
  bool needs_costs() const {
    constexpr Sources kWithoutModel = kTexts | bit(Source::kGrammar);
    return chooses_nodes() && races() &&
           (uses_model() || (options_.draft_sources.set & kWithoutModel) != 0);
  }

  std::span<const Token> tokens() const { return tokens_; }  // prompt and answer
  const GenerationOptions& options() const { return options_; }
  int32_t room() const { return n_ctx_ - static_cast<int32_t>(tokens_.size()); }
  // The most nodes that a tree has whose k the options fix; 0 if the controller chooses k.
  int32_t fixed_nodes() const;
  const Stats& stats() const { return stats_; }
  Stats& stats() { return stats_; }

 private:
  friend class Engine;

  void adapt_to(const Abilities& abilities);
  // Whether the draft model takes part, and whether texts and the grammar do. Rejection sampling
  // uses the draft model alone.
  bool uses_model() const {
    return has_draft_ && options_.method != Method::kAr &&
           options_.draft_sources.has(Source::kModel);
  }
  bool uses_texts() const { return races() && !texts_.empty() && !wants_ranks_; }
  bool follows_grammar() const {
    return races() && processors_.has_grammar() && options_.draft_sources.has(Source::kGrammar) &&
           !wants_ranks_;
  }
  bool drafts() const { return uses_model() || uses_texts() || follows_grammar(); }
  bool races() const { return is_race(options_.method) && options_.method != Method::kAr; }
  bool corrects_draft() const { return options_.adapt_draft && options_.method == Method::kErsd; }

  // Whether the controller chooses k. The text of rejection sampling depends on the tree, so there
  // the tree must depend on the seed alone: not on times and not on other texts.
  bool chooses_nodes() const { return options_.draft_nodes == kAuto && is_race(options_.method); }

  std::span<const Token> history() const { return std::span(tokens_).first(tokens_.size() - 1); }
  const TreeShape& make_shape(int32_t k, int32_t max_depth);

  GenerationOptions options_;
  LogitsProcessorList processors_;
  Coupling coupling_;
  Stats stats_;
  int32_t n_ctx_, place_ = 0, limit_ = 1;
  bool has_draft_, has_begun_ = false, wants_ranks_ = false;
  double recent_tokens_ = 0, recent_ms_ = 0;  // fading sums over its steps
  std::vector<Token> tokens_;                 // the last one is the next root
  TextDrafts texts_;
  RejectedBranches rejected_;
  size_t n_known_ = 0;  // tokens of the prompt that an earlier sequence had, too
  DraftedTree drafted_;
  DraftController::Text plan_;                 // what the controller knows of this text
  std::unique_ptr<DraftKnowledge> knowledge_;  // of rejection sampling; races share the engine's
  RankHistogram::Weights ranks_{};             // P(rank = r) when the step was planned
  TreeShapeBuilder shapes_;
  // The last shape, and the k and depth that it was made for; null after ranks_ has changed.
  const TreeShape* shape_ = nullptr;
  int32_t shape_nodes_ = 0, shape_depth_ = 0;
  int32_t n_read_ = 0;      // tokens of history that the step reads; all that is missing if the
  bool generates_ = false;  // step generates, which this says
  Verified verified_;
  std::exception_ptr failure_;
  Logprobs logprobs_of_;
  std::vector<TokenLogprob> logprobs_;
  std::vector<float> target_row_, draft_row_;
};

}  // namespace ersd
