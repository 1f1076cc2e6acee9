// The engine: a target, perhaps a draft, what their calls cost and what is known of the pair. A
// step drafts a tree for each of many sequences, and checks all of them in one target call.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "ersd/decode/sequence.h"
#include "ersd/draft/drafter.h"
#include "ersd/draft/history.h"
#include "ersd/learning/draft_controller.h"
#include "ersd/learning/draft_trials.h"
#include "ersd/learning/profile.h"
#include "ersd/learning/prompt_pacer.h"
#include "ersd/model/language_model.h"

namespace ersd {

// One thread at a time.
class Engine {
 public:
  // draft: may be null; else it must have as many places as the target. Both models must outlive
  // the engine.
  // prompt_share: the share of a step's time that reading prompts may take while other sequences
  //   generate, at least 0 and less than 1. At least one token is read.
  // n_history: tokens of earlier sequences that are kept to draft from.
  explicit Engine(LanguageModel& target, LanguageModel* draft, double prompt_share = 0.5,
                  int32_t n_history = 0);

  // Begins a sequence at its place, or goes on with one that had to leave its place: keeps what
  // the caches have there in common with its tokens and drops the rest. Rejection sampling keeps
  // nothing, because its text depends on every bit of both models.
  void begin(Sequence& sequence);

  // Makes room for trees of n nodes in one call, see LanguageModel::reserve_nodes().
  void reserve_nodes(int32_t n);

  // Makes one target call for all these sequences. Those whose prompt is not read yet read a piece
  // of it; the others get at least one token and at most their limit, or fail alone. If a model
  // throws, no sequence changes, and the step may be made again.
  void step(std::span<Sequence* const> sequences);

  // What all steps have done so far.
  struct Counts {
    int64_t calls = 0;        // of the target
    int64_t sequences = 0;    // those that took part in these calls
    int64_t rows = 0;         // tokens in these calls: of prompts, last ones of texts, drafted ones
    int64_t prompt_rows = 0;  // those of prompts
    int64_t tokens = 0;       // that the calls brought
  };
  const Counts& counts() const { return counts_; }

  // Makes room in a full context: drops the older half of the tokens after the first `keep`, and
  // reads the others anew at their new positions. Clocks keep counting, so no clock is used twice.
  void shift(Sequence& sequence, int32_t keep);

  // Ends a sequence: releases its logits processors. Its place keeps its tokens cached.
  void end(Sequence& sequence);

  // What earlier sequences said and read, as far as it is kept.
  History& history() { return history_; }

  // Forgets what sequences taught about drafts, and the history.
  void forget();

  // The profile is what is known about the pair, or about a target without a draft model; restore()
  // replaces it.
  bool measured() const { return cost_.measured(); }  // whether the costs of calls are known
  Profile profile() const {
    return {cost_, drafter_.cost(), knowledge_[static_cast<size_t>(Method::kErsd)]};
  }
  void restore(const Profile& profile);
  int64_t n_measurements() const { return n_measurements_; }  // of the costs of calls

  // Whether measure() is due: the costs are not known, or calls of late disagreed with them, as
  // those do that were measured in a busy moment.
  bool must_measure() const;

  // Measures the costs of calls, and empties all places. No sequence may be under way.
  void measure();

  // Returns what is expected of a plain call, and of calls with each k that "auto" chooses from.
  // Needs a draft and measured costs.
  std::vector<DraftController::Plan> forecast();

  // What is known about the draft of a method of races.
  const RankHistogram& histogram(Method method = Method::kErsd) const {
    return knowledge_[static_cast<size_t>(method)].ranks;
  }
  const MarginModel& margins(Method method = Method::kErsd) const {
    return knowledge_[static_cast<size_t>(method)].margins;
  }

 private:
  // Beside other sequences, a draft that has missed more tokens than this reads them in pieces.
  static constexpr int32_t kCatchUp = 64;

  DraftKnowledge& knowledge(Sequence& sequence) {
    return sequence.knowledge_ ? *sequence.knowledge_
                               : knowledge_[static_cast<size_t>(sequence.options_.method)];
  }
  bool plans(const Sequence& sequence) const {
    return sequence.drafts() && is_race(sequence.options_.method) && cost_.measured();
  }
  DraftController::Costs costs() { return {cost_, drafter_.cost()}; }
  DraftController::Plan plain_plan() const {
    return {0, 1, cost_(load_.n_rows) / load_.n_sequences};
  }

  static void keep_prefix(LanguageModel& model, const Sequence& sequence);
  int32_t n_missing(const LanguageModel& model, const Sequence& sequence) const;
  void choose_readers(std::span<Sequence* const> sequences);
  int32_t n_to_read(std::span<Sequence* const> sequences, int32_t n_generating);
  void set_n_cached(int64_t n_cached);
  void learn_pace(int32_t n_beside, double ms);
  int32_t plan_nodes(Sequence& sequence);
  void prepare_tree(Sequence& sequence);
  Growth choose_growth(Sequence& sequence, int32_t k);
  Growth choose_reading(Sequence& sequence);
  static Growth grow_without_model(Sequence& sequence);
  void draft();
  Price price() const;
  void call_target();
  void verify_tree(Sequence& sequence);
  void learn(Sequence& sequence);
  void learn_from_rejected(Sequence& sequence);
  void commit();
  static void count(Sequence& sequence);
  void begin_texts(Sequence& sequence);
  void abandon();
  void learn_from_step(double ms);

  LanguageModel& target_;
  Drafter drafter_;
  std::array<DraftKnowledge, kMethodCount> knowledge_;  // by method
  CostCurve cost_;                                      // what the target's calls cost
  int64_t n_calls_ = 0;           // target calls that taught something of their cost
  int64_t measured_at_call_ = 0;  // n_calls_ at the last measurement
  int64_t n_measurements_ = 0;
  Counts counts_;
  HitRates hit_rates_;  // of texts
  History history_;
  DraftController controller_;
  DraftTrials trials_;
  PromptPacer pacer_;
  double rows_per_sequence_ = 1;  // in steps that read nothing; a fading mean

  // The step that is being made.
  std::vector<Sequence*> step_;  // the sequences that take part
  DraftController::Load load_;   // what its plain call would have
  int32_t n_prompt_rows_ = 0;    // tokens of prompts that it reads
  int32_t n_read_before_ = 0;    // cached tokens of the longest of these prompts
  int32_t n_target_rows_ = 0;    // tokens of the target's call
  bool may_draft_ = true;        // whether trees are drafted whose k the controller chooses
  std::vector<DraftedTree*> trees_;
  std::vector<Part> parts_;
  std::vector<Accepted> accepted_;
  std::vector<int32_t> nodes_;  // 0, 1, 2, ..., at least as many as any tree has
};

}  // namespace ersd
