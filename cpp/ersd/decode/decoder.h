// The decoding step: draft a tree, check it in one target call, keep what was accepted.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "ersd/decode/options.h"
#include "ersd/draft/drafter.h"
#include "ersd/learning/draft_controller.h"
#include "ersd/learning/profile.h"
#include "ersd/model/language_model.h"
#include "ersd/race/logprobs.h"
#include "ersd/stats.h"
#include "ersd/tree/tree_shape.h"
#include "ersd/verify/logits_processor.h"
#include "ersd/verify/verify.h"

namespace ersd {

// One generation at a time, one thread at a time.
class Decoder {
 public:
  // draft: may be null; then every method is plain decoding by the same races. Both models must
  // outlive the decoder.
  Decoder(LanguageModel& target, LanguageModel* draft);

  // Begins a generation and ends the last one. Decodes the prompt except for its last token and for
  // what the caches hold. Rejection sampling never uses what the caches hold, because its text
  // depends on every bit of both models.
  // prompt: i32[n], at least one token.
  // processors: those that options.processors asks for.
  void start(std::span<const Token> prompt, const GenerationOptions& options,
             LogitsProcessorList processors = {});

  // Makes one target call and returns its tokens: at least one, and at most `limit`, which is 1 or
  // more. Valid until the next step. If a model throws, the tokens of earlier
  // steps stay valid, and start() begins a new generation.
  std::span<const Token> step(int32_t limit);

  // The log-probabilities of the tokens of the last step if options.logprobs asks for them, else
  // none. Valid until the next step.
  std::span<const TokenLogprob> logprobs() const { return logprobs_; }

  // Makes one call of each model without a tree, and returns the token and its rank in the draft's
  // order. Such ranks tell what any tree would have given. Needs a draft and room for the token.
  RankedToken step_with_rank();

  // The logits of the last step_with_rank(), f32[n_vocab] and f32[least of both vocabularies].
  // Valid until the next call.
  std::span<const float> target_row() const { return target_row_; }
  std::span<const float> draft_row() const { return drafter_->at(0).logits; }

  // Makes room in a full context: drops the older half of the tokens after the first `keep`, and
  // decodes the others anew at their new positions. Clocks keep counting, so no clock is used
  // twice.
  void shift(int32_t keep);

  // Ends the generation and releases its logits processors. step() must not follow.
  void end() { processors_ = {}, options_.processors = {}, verified_.failure = nullptr; }

  // How many more tokens the context can take.
  int32_t room() const { return target_.n_ctx() - static_cast<int32_t>(tokens_.size()); }

  const Stats& stats() const { return stats_; }
  Stats& stats() { return stats_; }

  // Forgets what earlier generations taught about the draft.
  void forget();

  // The profile is what is known about the pair; restore() replaces it. All three need a draft.
  bool measured() const { return cost_.measured(); }  // whether the costs of calls are known
  Profile profile() const {
    return {cost_, drafter_->cost(), knowledge_[static_cast<size_t>(Method::kErsd)]};
  }
  void restore(const Profile& profile);
  int64_t n_measurements() const { return n_measurements_; }  // of the costs of calls

  // Returns what is expected of a plain call, and of calls with each k that "auto" chooses from, by
  // the options of this generation. Measures the costs of calls if they are not known. Needs a
  // draft, and ends the generation.
  std::vector<DraftController::Plan> forecast();

  // What is known about the draft for the method in use.
  const RankHistogram& histogram() const { return knowledge().ranks; }
  const MarginModel& margins() const { return knowledge().margins; }

 private:
  bool drafts() const { return drafter_ && options_.method != Method::kAr; }
  bool corrects_draft() const { return options_.adapt_draft && options_.method == Method::kErsd; }

  // Whether the controller chooses k. The text of rejection sampling depends on the tree, so there
  // the tree must depend on the seed alone: not on times and not on earlier texts.
  bool chooses_nodes() const { return options_.draft_nodes == kAuto && is_race(options_.method); }

  // Whether the controller plans calls and learns from them.
  bool plans() const { return drafts() && is_race(options_.method) && cost_.measured(); }

  // Each method has its own knowledge, because the draft's order differs.
  const DraftKnowledge& knowledge() const {
    return knowledge_[static_cast<size_t>(options_.method)];
  }
  DraftKnowledge& knowledge() { return knowledge_[static_cast<size_t>(options_.method)]; }

  std::span<const double> ranks() const { return std::span(ranks_).first(RankHistogram::kRanks); }
  DraftController::Costs costs() { return {cost_, drafter_->cost()}; }
  std::span<const Token> history() const { return std::span(tokens_).first(tokens_.size() - 1); }
  Drafter::Request request() { return {history(), coupling_, tree_, stats_}; }

  void measure();
  void prefill();
  void decode_root();
  void keep_prefix(LanguageModel& model);
  int32_t plan_nodes();
  const TreeShape& make_shape(int32_t k, int32_t max_depth);
  void draft_tree(int32_t k, int32_t max_depth);
  void call_target();
  void verify_tree();
  void learn();
  void commit();
  void learn_from_plan(int32_t k, int32_t limit, double ms);

  LanguageModel& target_;
  std::unique_ptr<Drafter> drafter_;
  GenerationOptions options_;
  LogitsProcessorList processors_;
  Coupling coupling_;
  Stats stats_;

  std::array<DraftKnowledge, kMethodCount> knowledge_;  // by method
  CostCurve cost_;                                      // what the target's calls cost
  int64_t n_calls_ = 0;           // target calls that taught something of their cost
  int64_t measured_at_call_ = 0;  // n_calls_ at the last measurement
  int64_t n_measurements_ = 0;
  DraftController controller_;
  RankHistogram::Weights ranks_{};  // P(rank = r) when the next call was planned

  TreeShapeBuilder shapes_;
  // The last shape, and the k and depth that it was made for; null after ranks_ has changed.
  const TreeShape* shape_ = nullptr;
  int32_t shape_nodes_ = 0, shape_depth_ = 0;

  bool root_decoded_ = false;  // the call that read the prompt gave the root's logits too

  std::vector<Token> tokens_;  // prompt and answer; the last one is the next root
  DraftTree tree_;
  std::vector<int32_t> nodes_;  // 0, 1, 2, ..., at least as many as the tree has
  Verified verified_;
  Logprobs logprobs_of_;
  std::vector<TokenLogprob> logprobs_;
  std::vector<float> target_row_;  // f32[n_vocab]
};

}  // namespace ersd
