// What the trees of a step are to be, and what is learnt from the time that it took.
#include <algorithm>

#include "ersd/decode/engine.h"

namespace ersd {
namespace {

constexpr int32_t kRejectionNodes = 16;  // k of "auto" for rejection sampling
constexpr double kMeasureMs = 300;       // time to measure the costs of each model's calls

// Calls that follow a measurement at least before the next one. On a machine that is busy now and
// then, measuring must not take more time than it saves.
constexpr int64_t kTrustedCalls = 1000;

// A step counts half as much as one that is 11 steps later.
constexpr double kRecentFade = 1 - 1.0 / 16;

// How many of some nodes the draft model proposed.
int32_t n_of_model(const DraftTree& tree, std::span<const int32_t> nodes) {
  return static_cast<int32_t>(std::ranges::count_if(
      nodes, [&](int32_t node) { return (tree.sources(node) & bit(Source::kModel)) != 0; }));
}

std::span<const double> ranks_of(const RankHistogram::Weights& weights) {
  return std::span(weights).first(RankHistogram::kRanks);
}

}  // namespace

// Returns k of the sequence's next call.
int32_t Engine::plan_nodes(Sequence& s) {
  const GenerationOptions& options = s.options_;
  s.shape_ = nullptr;
  s.ranks_ = knowledge(s).ranks.probabilities();
  if (!s.chooses_nodes()) {
    const int32_t fixed = options.draft_nodes == kAuto ? kRejectionNodes : options.draft_nodes;
    if (plans(s) && s.uses_model())
      controller_.plan_fixed(s.plan_, s.make_shape(fixed, options.draft_depth), ranks_of(s.ranks_),
                             costs(), load_);
    return fixed;
  }
  if (!plans(s)) return 0;  // the costs of calls are not known yet
  if (!may_draft_ || !s.uses_model()) {
    s.plan_.calls_left = 0;
    s.plan_.plan = plain_plan();
    return 0;
  }
  const auto shapes = [&](int32_t k) -> const TreeShape& {
    return s.make_shape(k, options.draft_depth);
  };
  return controller_
      .plan(s.plan_, shapes, ranks_of(s.ranks_), costs(), load_, n_missing(*drafter_.model(), s))
      .nodes;
}

// Says how the sequence's tree is to grow in this step.
void Engine::prepare_tree(Sequence& s) {
  DraftedTree& tree = s.drafted_;
  tree.reset(s.tokens_.back());
  tree.growth = Growth::kNone;
  if (!plans(s)) s.plan_.plan = plain_plan();
  if (!s.drafts()) return;
  tree.place = s.place_;
  tree.history = s.history();
  tree.coupling = &s.coupling_;
  tree.processors = &s.processors_;
  tree.correction = s.corrects_draft() ? &knowledge(s).correction : nullptr;
  tree.rejected = s.corrects_draft() ? &s.rejected_ : nullptr;
  tree.margins = &knowledge(s).margins;
  tree.stats = &s.stats_;
  const int32_t most = target_.must_catch_up(s.place_) ? 0 : s.options_.draft_depth;
  tree.max_depth = std::min(s.limit_ - 1, most);
  const int32_t n_roots = load_.n_sequences;
  tree.max_nodes = std::min(kMaxDraftNodes, target_.max_nodes() - n_roots) / n_roots;
  tree.max_branches = target_.max_branches();
  if (s.uses_model())
    tree.max_branches = std::min(tree.max_branches, drafter_.model()->max_branches());
  tree.max_branches /= load_.n_sequences;
  tree.texts = s.uses_texts() || s.follows_grammar() ? &s.texts_ : nullptr;
  tree.rates = &hit_rates_;
  tree.follows_grammar = s.follows_grammar();
  tree.k = plan_nodes(s);
  tree.growth = choose_growth(s, tree.k);
}

Growth Engine::choose_growth(Sequence& s, int32_t k) {
  DraftedTree& tree = s.drafted_;
  tree.runs_model = s.uses_model() && k > 0;
  if (s.wants_ranks_ && s.generates_) {
    tree.correction = nullptr, tree.rejected = nullptr;
    return Growth::kRoot;
  }
  if (s.uses_model() && (k > 0 || s.wants_ranks_)) {
    const bool lags = load_.n_sequences > 1 && n_missing(*drafter_.model(), s) > kCatchUp;
    if (!s.generates_ || lags) return choose_reading(s);
  }
  const bool may_grow = s.generates_ && s.n_read_ == 0 && tree.max_depth > 0;
  const bool waits = s.chooses_nodes() && (!plans(s) || !may_draft_);
  if (!may_grow || waits) return Growth::kNone;
  if (!tree.runs_model) return tree.texts ? grow_without_model(s) : Growth::kNone;
  if (s.options_.strategy == Strategy::kAdaptive)
    return s.chooses_nodes() ? Growth::kWorth : Growth::kMargins;
  tree.shape = &s.make_shape(k, tree.max_depth);
  return Growth::kShape;
}

// A strategy says which nodes a tree may have. Without a draft model there are no ranks, so its
// nodes are the most probable ones.
Growth Engine::grow_without_model(Sequence& s) {
  DraftedTree& tree = s.drafted_;
  switch (s.options_.strategy) {
    case Strategy::kSimple:
      tree.max_nodes = std::min(tree.max_nodes, 1);
      break;
    case Strategy::kSequence:
      tree.max_branches = 0;
      break;
    case Strategy::kBatch:
      tree.max_depth = 1;
      break;
    case Strategy::kTree:
    case Strategy::kAdaptive:
      break;
  }
  if (s.chooses_nodes()) return Growth::kWorth;
  return s.options_.strategy == Strategy::kAdaptive ? Growth::kMargins : Growth::kBest;
}

// What the time of this step is worth: the speed of decoding by the plans, by plain calls or of
// late, whichever is greatest.
Price Engine::price() const {
  Price price{0, &cost_, n_prompt_rows_};
  double tokens = 0, ms = 0;
  for (const Sequence* s : step_) {
    if (!s->generates_) continue;
    tokens += s->plan_.plan.tokens, ms += s->plan_.plan.ms;
    const Growth growth = s->drafted_.growth;
    if (growth == Growth::kNone) ++price.n_other_rows;
    if (growth == Growth::kShape || growth == Growth::kMargins || growth == Growth::kBest)
      price.n_other_rows += s->drafted_.k + 1;
  }
  if (ms > 0) price.tokens_per_ms = std::max(tokens / ms, load_.n_sequences / cost_(load_.n_rows));
  double recent = 0;
  for (const Sequence* s : step_)
    if (s->recent_ms_ > 0) recent += s->recent_tokens_ / s->recent_ms_;
  price.tokens_per_ms = std::max(price.tokens_per_ms, recent);
  return price;
}

// Counts what was expected of the step and learns from it. The end of an answer may have made a
// tree smaller than planned, and prompts make the step longer; then nothing is learnt.
void Engine::learn_from_step(double ms) {
  double expected_ms = 0;
  int32_t n_generating = 0, n_beside = 0;  // n_beside: those that read nothing
  size_t n_emitted = 0;
  for (const Sequence* s : step_) {
    expected_ms += s->generates_ ? s->plan_.plan.ms : 0;
    n_generating += s->generates_;
    n_beside += s->generates_ && s->n_read_ == 0;
    n_emitted += s->verified_.emitted.size();
  }
  for (Sequence* s : step_) {
    if (s->n_read_ > 0) s->stats_.prefill_ms += ms;
    if (!s->generates_ || s->verified_.path.empty() || !plans(*s)) continue;
    if (s->n_read_ == 0 && n_prompt_rows_ == 0) {
      s->recent_tokens_ =
          kRecentFade * s->recent_tokens_ + static_cast<double>(s->verified_.emitted.size());
      s->recent_ms_ = kRecentFade * s->recent_ms_ + ms;
    }
    const auto& plan = s->plan_.plan;
    s->stats_.expected_tokens += plan.tokens;
    s->stats_.expected_ms += plan.ms;
    if (n_prompt_rows_ > 0 || s->limit_ <= plan.nodes || !s->uses_model()) continue;
    const bool as_planned = plan.nodes == 0 || s->drafted_.growth != Growth::kNone;
    if (!as_planned) continue;
    // What texts brought is not the draft model's, nor is a step in which they made it needless.
    if (plan.nodes > 0 && s->drafted_.rows.raw(0).empty()) continue;
    controller_.learn(
        s->plan_,
        n_of_model(s->drafted_.tree,
                   std::span(nodes_).first(static_cast<size_t>(s->drafted_.tree.size()))),
        n_of_model(s->drafted_.tree, s->verified_.path), ms * plan.ms / expected_ms);
  }
  learn_pace(n_beside, ms);
  if (n_generating > 1 && n_prompt_rows_ == 0) {
    const double plain_ms = cost_(n_generating) / n_generating;
    trials_.learn(n_generating, static_cast<double>(n_emitted) * plain_ms, ms);
  }
}

void Engine::forget() {
  knowledge_.fill({});
  controller_ = {};
  trials_ = {};
  hit_rates_ = {};
  history_.clear();
  drafter_.forget();
}

bool Engine::must_measure() const {
  if (!cost_.measured()) return true;
  const bool is_wrong = cost_.distrusted() || drafter_.cost().distrusted();
  return is_wrong && n_calls_ - measured_at_call_ >= kTrustedCalls;
}

void Engine::measure() {
  measured_at_call_ = n_calls_;
  ++n_measurements_;
  controller_.forget_times();
  trials_ = {};  // it has compared times with the costs that were known
  for (LanguageModel* model : {drafter_.model(), &target_})
    for (int32_t place = 0; model && place < model->n_sequences(); ++place)
      model->rollback(0, place);
  if (drafter_.model()) drafter_.cost().measure(*drafter_.model(), kMeasureMs);
  cost_.measure(target_, kMeasureMs);
}

void Engine::restore(const Profile& profile) {
  cost_ = profile.target;
  measured_at_call_ = n_calls_ - kTrustedCalls;  // a profile may be wrong from the first call on
  drafter_.cost() = profile.draft;
  knowledge_[static_cast<size_t>(Method::kErsd)] = profile.knowledge;
}

std::vector<DraftController::Plan> Engine::forecast() {
  const auto ranks = histogram().probabilities();
  TreeShapeBuilder builder;
  const Abilities target = target_.abilities(), draft = drafter_.model()->abilities();
  const int32_t depth =
      std::min({GenerationOptions().draft_depth, target.max_depth, draft.max_depth});
  const auto shapes = [&](int32_t k) -> const TreeShape& {
    return target.branches && draft.branches ? builder.build_optimal(ranks_of(ranks), k, depth)
                                             : builder.build_sequence(k, depth);
  };
  return controller_.forecast(shapes, ranks_of(ranks), costs(), {1, 1, target.n_rollback == 0});
}

}  // namespace ersd
