// The step: trees, one target call, verification, and what is kept.
#include "ersd/decode/engine.h"

#include <algorithm>
#include <utility>

#include "ersd/stopwatch.h"

namespace ersd {
namespace {

// The least of the tokens that a history still lacks in a cache that holds some of it.
std::span<const Token> first_tokens(std::span<const Token> history, int32_t n) {
  return history.first(std::min(history.size(), static_cast<size_t>(n)));
}

}  // namespace

Engine::Engine(LanguageModel& target, LanguageModel* draft, double prompt_share, int32_t n_history)
    : target_(target),
      drafter_(draft, target.n_vocab()),
      history_(n_history),
      pacer_(prompt_share) {}

void Engine::begin(Sequence& sequence) {
  keep_prefix(target_, sequence);
  if (drafter_.model()) keep_prefix(*drafter_.model(), sequence);
  if (sequence.stats_.target_calls == 0)
    sequence.stats_.cached_tokens = target_.n_cached(sequence.place_);
  sequence.plan_.calls_left = 0;
  if (!std::exchange(sequence.has_begun_, true)) begin_texts(sequence);
}

// Gives a new sequence its texts to draft from.
void Engine::begin_texts(Sequence& s) {
  s.n_known_ = static_cast<size_t>(target_.n_cached(s.place_));
  if (!s.races()) return;
  const GenerationOptions& options = s.options_;
  TextDrafts::Texts others;
  if (options.draft_sources.has(Source::kHistory)) {
    others = history_.texts();
    for (const auto& reference : options.references)
      others.push_back(std::make_shared<TextSource>(Source::kHistory, reference));
  }
  if (options.draft_sources.has(Source::kPrediction) && !options.prediction.empty())
    others.push_back(std::make_shared<TextSource>(Source::kPrediction, options.prediction));
  s.texts_.begin(s.tokens_, options.draft_sources.has(Source::kLookup), std::move(others));
}

void Engine::reserve_nodes(int32_t n) {
  target_.reserve_nodes(n);
  if (drafter_.model()) drafter_.model()->reserve_nodes(n);
}

// Cuts a cache to what it has in common with the history. The model says what its cache holds,
// which is right even after a step that failed.
void Engine::keep_prefix(LanguageModel& model, const Sequence& sequence) {
  const auto cached = model.cached(sequence.place_), wanted = sequence.history();
  const auto end = std::mismatch(cached.begin(), cached.end(), wanted.begin(), wanted.end()).first;
  const bool keeps = is_race(sequence.options_.method);
  model.rollback(keeps ? static_cast<int32_t>(end - cached.begin()) : 0, sequence.place_);
}

int32_t Engine::n_missing(const LanguageModel& model, const Sequence& sequence) const {
  return static_cast<int32_t>(sequence.history().size()) - model.n_cached(sequence.place_);
}

void Engine::step(std::span<Sequence* const> sequences) {
  double ms = 0;
  {
    const Stopwatch watch(ms);
    choose_readers(sequences);
    if (step_.empty()) return;
    try {
      draft();
      call_target();
      for (Sequence* sequence : step_) {
        if (!sequence->generates_) continue;
        verify_tree(*sequence);
        learn(*sequence);
      }
      commit();
    } catch (...) {
      abandon();
      throw;
    }
  }
  learn_from_step(ms);
}

void Engine::draft() {
  trees_.clear();
  for (Sequence* sequence : step_) {
    prepare_tree(*sequence);
    if (sequence->drafted_.growth != Growth::kNone) trees_.push_back(&sequence->drafted_);
  }
  if (!trees_.empty()) drafter_.draft(trees_, price());
}

void Engine::call_target() {
  parts_.clear();
  int32_t width = 0;
  for (Sequence* s : step_) {
    const DraftTree& tree = s->drafted_.tree;
    const int32_t n_nodes = s->generates_ ? tree.size() : 0;
    const int32_t n_rows = s->n_read_ + target_.n_read_again(s->place_) + n_nodes;
    for (auto n = static_cast<int32_t>(nodes_.size()); n < n_nodes; ++n) nodes_.push_back(n);
    const auto history = first_tokens(s->history(), target_.n_cached(s->place_) + s->n_read_);
    parts_.push_back({s->place_, history, &tree, {}});
    s->stats_.target_tokens += n_rows;
    width += n_rows;
  }
  // nodes_ has grown to its final size, so spans of it stay valid.
  for (size_t i = 0; i < parts_.size(); ++i)
    if (step_[i]->generates_)
      parts_[i].nodes = std::span(nodes_).first(step_[i]->drafted_.tree.size());
  double ms = 0;
  {
    const Stopwatch watch(ms);
    target_.decode(parts_);
  }
  cost_.learn(width, ms);
  ++n_calls_;
  n_target_rows_ = width;
  for (Sequence* s : step_)
    if (s->n_read_ == 0) s->stats_.target_ms += ms;
}

// An error of one sequence, such as one of its logits processors, is its own.
void Engine::verify_tree(Sequence& s) {
  const Stopwatch watch(s.stats_.race_ms);
  const DraftedTree& drafted = s.drafted_;
  // std::function allocates for more than two pointers.
  const NodeInputs inputs{[this, &s](int32_t node) {
                            return s.processors_.process_target(s.history(), s.drafted_.tree, node,
                                                                target_.logits(node, s.place_));
                          },
                          [&s](int32_t node) { return s.drafted_.at(node); }};
  try {
    verify(drafted.tree, inputs, static_cast<uint32_t>(s.history().size()), s.coupling_,
           s.verified_);
  } catch (...) {
    s.failure_ = std::current_exception();
    s.verified_.path.clear(), s.verified_.emitted.clear(), s.verified_.rank.clear();
  }
  for (size_t i = 0; i < s.verified_.path.size() && s.options_.logprobs >= 0; ++i)
    s.logprobs_.push_back(s.logprobs_of_(target_.logits(s.verified_.path[i], s.place_),
                                         s.verified_.emitted[i], s.options_.logprobs));
  if (s.wants_ranks_ && !s.failure_) {
    const auto row = target_.logits(0, s.place_), draft_row = drafted.rows.raw(0);
    s.target_row_.assign(row.begin(), row.end());
    s.draft_row_.assign(draft_row.begin(), draft_row.end());
  }
}

// Learns from each verified position at which the draft was run.
void Engine::learn(Sequence& s) {
  const Stopwatch watch(s.stats_.race_ms);
  const DraftedTree& drafted = s.drafted_;
  DraftKnowledge& known = knowledge(s);
  for (size_t i = 0; i < s.verified_.path.size(); ++i) {
    const int32_t node = s.verified_.path[i], rank = s.verified_.rank[i];
    if (rank < 0) continue;
    ++s.stats_.rank_histogram[std::min<size_t>(rank, RankHistogram::kRanks)];
    known.ranks.learn(static_cast<size_t>(rank));
    if (s.options_.strategy == Strategy::kAdaptive) {
      drafter_.learn_agreement(s.drafted_, node, s.verified_.emitted[i]);
      const DraftRow draft = drafted.at(node);
      known.margins.learn(draft.order, draft.logits, s.coupling_.temperature(), rank);
    }
    if (s.corrects_draft())
      known.correction.learn(drafted.tree.token(node), target_.logits(node, s.place_),
                             drafted.rows.raw(node), s.coupling_.temperature());
  }
  if (drafted.texts && drafted.grows())
    s.texts_.learn(s.verified_.path, s.verified_.emitted, hit_rates_);
  if (s.corrects_draft() && !s.verified_.path.empty()) learn_from_rejected(s);
}

// The target's rows at rejected nodes show as well where the draft is wrong. What they say of
// positions beyond the accepted path is of use there, too.
void Engine::learn_from_rejected(Sequence& s) {
  const DraftedTree& drafted = s.drafted_;
  Correction& correction = knowledge(s).correction;
  const uint32_t position = drafted.child_position(s.verified_.path.back()) + 1;
  s.rejected_.begin(position);
  auto accepted = s.verified_.path.begin();
  for (int32_t node = 0; node < drafted.tree.size(); ++node) {
    const auto row = drafted.rows.raw(node);
    const bool is_accepted = accepted != s.verified_.path.end() && node == *accepted;
    accepted += is_accepted;
    if (is_accepted || row.empty()) continue;
    const Token token = drafted.tree.token(node);
    correction.learn(token, target_.logits(node, s.place_), row, s.coupling_.temperature());
    if (const uint32_t at = drafted.child_position(node); at >= position)
      s.rejected_.add(at, drafted.token_before(node), token, correction.differences());
  }
}

void Engine::commit() {
  accepted_.clear();
  for (const Sequence* s : step_)
    if (s->generates_)
      accepted_.push_back({s->place_, &s->drafted_.tree,
                           s->verified_.path.empty() ? -1 : s->verified_.path.back()});
  target_.commit(accepted_);
  if (drafter_.model()) drafter_.model()->commit(accepted_);
  for (Sequence* s : step_) {
    if (!s->generates_ || s->verified_.path.empty()) continue;
    s->tokens_.insert(s->tokens_.end(), s->verified_.emitted.begin(), s->verified_.emitted.end());
    s->processors_.commit(s->tokens_);
    s->texts_.append(s->verified_.emitted);
    count(*s);
    counts_.tokens += static_cast<int64_t>(s->verified_.emitted.size());
  }
  ++counts_.calls;
  counts_.sequences += static_cast<int64_t>(step_.size());
  counts_.rows += n_target_rows_;
  counts_.prompt_rows += n_prompt_rows_;
}

void Engine::count(Sequence& s) {
  const auto add = [](std::vector<int64_t>& histogram, size_t n) {
    if (histogram.size() <= n) histogram.resize(n + 1);
    ++histogram[n];
  };
  const size_t n_accepted = s.verified_.path.size() - 1;
  add(s.stats_.acceptance_histogram, n_accepted);
  add(s.stats_.nodes_histogram, static_cast<size_t>(s.drafted_.tree.n_drafted()));
  ++s.stats_.target_calls;
  s.stats_.generated += static_cast<int64_t>(n_accepted) + 1;
  s.stats_.accepted += static_cast<int64_t>(n_accepted);
  const DraftTree& tree = s.drafted_.tree;
  for (const uint8_t sources : tree.sources()) count_sources(s.stats_.drafted_by, sources, 1);
  for (const int32_t node : s.verified_.path)
    count_sources(s.stats_.accepted_by, tree.sources(node), 1);  // the root has no source
}

// After an error of a model: no sequence of the step has changed.
void Engine::abandon() {
  for (Sequence* s : step_) {
    s->verified_.path.clear(), s->verified_.emitted.clear(), s->logprobs_.clear();
    target_.rollback(target_.n_cached(s->place_), s->place_);
    if (LanguageModel* draft = drafter_.model())
      draft->rollback(draft->n_cached(s->place_), s->place_);
  }
}

void Engine::shift(Sequence& s, int32_t keep) {
  const Stopwatch watch(s.stats_.prefill_ms);
  const int32_t n = std::max((static_cast<int32_t>(s.tokens_.size()) - keep) / 2, 1);
  s.tokens_.erase(s.tokens_.begin() + keep, s.tokens_.begin() + keep + n);
  s.coupling_.shift(n);
  s.rejected_.clear();
  s.processors_.shift(static_cast<size_t>(n));
  const int64_t cached_tokens = s.stats_.cached_tokens;
  begin(s);
  s.stats_.cached_tokens = cached_tokens;  // of the prompt, not of what is left of the text
}

void Engine::end(Sequence& s) {
  if (s.races() && s.has_begun_ && s.options_.draft_sources.has(Source::kHistory))
    history_.append(std::span(s.tokens_).subspan(std::min(s.n_known_, s.tokens_.size())));
  s.texts_ = {};
  s.processors_ = {}, s.options_.processors = {};
  s.failure_ = s.verified_.failure = nullptr;
}

}  // namespace ersd
