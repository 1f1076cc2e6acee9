// The decoding step: draft a tree, check it in one target call, keep what won.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "ersd/decode/options.h"
#include "ersd/draft/drafter.h"
#include "ersd/learning/controller.h"
#include "ersd/learning/profile.h"
#include "ersd/model/language_model.h"
#include "ersd/race/logprobs.h"
#include "ersd/stats.h"
#include "ersd/tree/tree_shape.h"
#include "ersd/verify/logits_processor.h"
#include "ersd/verify/verify.h"

namespace ersd {

class Decoder {
 public:
  // draft may be null: then every method is plain sampling by the same races. Both models must
  // outlive the decoder.
  Decoder(LanguageModel& target, LanguageModel* draft);

  // Forgets the last generation and decodes the prompt but its last token, and of that only what
  // the caches do not hold. Rejection sampling, whose text depends on every bit of both models,
  // reads the whole prompt. prompt: i32[1 or more]. shaping: what options.processors asks for.
  void start(std::span<const Token> prompt, const GenerationOptions& options,
             LogitsProcessorList processors = {});

  // One target call; the tokens it gave, at least one and at most `limit` (1 or more). Valid until
  // the next step. If a model throws, the tokens so far stand and the next start() sets everything
  // right.
  std::span<const Token> step(int32_t limit);

  // Of each token of the last step, where options.logprobs asks for them. Valid until the next
  // step.
  std::span<const TokenLogprob> logprobs() const { return logprobs_; }

  // One target call without a tree, and one of the draft: a token and its rank in the draft's
  // order, from which follows what any tree of ranks would have done here. target_row() and
  // draft_row() give the logits behind it until the next call. Needs a draft and room for the
  // token.
  RankedToken step_with_rank();
  std::span<const float> target_row() const { return target_row_; }
  std::span<const float> draft_row() const { return drafter_->row(0); }

  // Makes room in a full context: of the tokens after the first `keep` the older half is dropped,
  // and the others are decoded anew where they now stand, as if they had been the prompt. Clocks go
  // on counting.
  void shift(int32_t keep);

  // Lets go of what shapes the generation; it must not go on.
  void end() { processors_ = {}, options_.processors = {}, verified_.failure = nullptr; }

  // How many of the next tokens the context can still take.
  int32_t room() const { return target_.n_ctx() - static_cast<int32_t>(tokens_.size()); }

  const Stats& stats() const { return stats_; }
  Stats& stats() { return stats_; }
  // Forgets what earlier generations taught of the draft.
  void forget();

  // What is known of the pair, and going on from it. Need a draft.
  bool measured() const { return cost_.measured(); }  // what calls cost
  Profile profile() const {
    return {cost_, drafter_->cost(), learnt_[static_cast<size_t>(Method::kErsd)]};
  }
  void restore(const Profile& profile);

  // What is expected of a plain call and of calls with each k that "auto" chooses from, as things
  // stand in this generation. Measures what calls cost if that has not been done; needs a draft,
  // and the generation is over then.
  std::vector<Controller::Plan> forecast();

  // Of the method in use: each has its own.
  const RankHistogram& histogram() const { return learnt().ranks; }
  const MarginModel& margins() const { return learnt().margins; }

 private:
  bool drafting() const { return drafter_ && options_.method != Method::kAr; }
  bool adapting() const { return options_.adapt_draft && options_.method == Method::kErsd; }
  // Rejection sampling's text depends on the tree, so that must depend on the seed alone: not on
  // times, nor on earlier texts.
  bool automatic() const { return options_.draft_nodes == kAuto && is_race(options_.method); }
  void measure();
  bool expecting() const {
    return is_race(options_.method) && cost_.measured();
  }  // whether the controller follows what calls bring
  int32_t plan_nodes();
  const TreeShape& tree_shape(int32_t k, int32_t max_depth);
  std::span<const Token> history() const { return std::span(tokens_).first(tokens_.size() - 1); }
  void prefill();
  void draft(int32_t k, int32_t max_depth);
  void check();
  void learn();
  void commit();

  LanguageModel& target_;
  std::unique_ptr<Drafter> drafter_;
  GenerationOptions options_;
  CostCurve cost_;  // of the target
  Controller controller_;
  Coupling coupling_;
  LogitsProcessorList processors_;
  Logprobs logprobs_of_;
  std::vector<TokenLogprob> logprobs_;
  const Learnt& learnt() const { return learnt_[static_cast<size_t>(options_.method)]; }
  Learnt& learnt() { return learnt_[static_cast<size_t>(options_.method)]; }
  std::array<Learnt, kMethods> learnt_;
  TreeShapeBuilder shape_builder_;
  const TreeShape* shape_ = nullptr;  // the last one made, while it is what these ask for
  int32_t shape_nodes_ = 0, shape_depth_ = 0;
  DraftTree tree_;
  Verified verified_;
  std::vector<Token> tokens_;   // prompt and answer; the last one is the next root
  std::vector<int32_t> nodes_;  // 0, 1, 2, ...
  std::vector<float> target_row_;
  Stats stats_;
};

}  // namespace ersd
