// The decoding step, the prompt before it, and the context shift.
#include "ersd/decode/decoder.h"

#include <algorithm>
#include <utility>

#include "ersd/stopwatch.h"

namespace ersd {
namespace {

constexpr int32_t kRejectionNodes = 16;  // k of "auto" for rejection sampling
constexpr double kMeasureMs = 300;       // time to measure the costs of each model's calls

// Calls that follow a measurement at least before the next one. On a machine that is busy now and
// then, measuring must not take more time than it saves.
constexpr int64_t kTrustedCalls = 1000;

}  // namespace

Decoder::Decoder(LanguageModel& target, LanguageModel* draft) : target_(target) {
  if (draft) drafter_ = std::make_unique<Drafter>(*draft, target.n_vocab());
}

void Decoder::start(std::span<const Token> prompt, const GenerationOptions& options,
                    LogitsProcessorList processors) {
  options_ = options;
  processors_ = std::move(processors);
  verified_.failure = nullptr;
  if (!is_race(options.method)) knowledge() = {};
  coupling_.reset(options.method, options.sampling, options.seed);
  stats_ = {};
  for (auto* counts : {&stats_.acceptance_histogram, &stats_.nodes_histogram})
    counts->reserve(kMaxDraftNodes + 1);
  tokens_.reserve(static_cast<size_t>(target_.n_ctx()) + 1);
  tokens_.assign(prompt.begin(), prompt.end());
  const Stopwatch watch(stats_.prefill_ms);
  if (drafts() && chooses_nodes()) measure();
  if (drafter_) {
    drafter_->set_correction(corrects_draft() ? &knowledge().correction : nullptr);
    drafter_->set_processors(&processors_);
  }
  controller_.replan();
  prefill();
}

// Decodes the history. Without a draft, the first root goes into the same call, as llama.cpp's own
// programs have it. The draft skips it if the first call will be plain, and catches up later.
void Decoder::prefill() {
  keep_prefix(target_);
  stats_.cached_tokens = target_.n_cached();
  root_decoded_ = !drafter_;
  if (root_decoded_) return decode_root();
  target_.decode(history(), tree_, {});
  if (!drafts()) return;
  keep_prefix(drafter_->model());
  if (plan_nodes() > 0) drafter_->model().decode(history(), tree_, {});
}

void Decoder::decode_root() {
  constexpr std::array<int32_t, 1> kRoot{0};
  tree_.reset(tokens_.back());
  target_.decode(history(), tree_, kRoot);
}

// Cuts a cache to what it has in common with the history. The model says what its cache holds,
// which is right even after a generation that failed.
void Decoder::keep_prefix(LanguageModel& model) {
  const auto cached = model.cached(), wanted = history();
  const auto end = std::mismatch(cached.begin(), cached.end(), wanted.begin(), wanted.end()).first;
  model.rollback(is_race(options_.method) ? static_cast<int32_t>(end - cached.begin()) : 0);
}

std::span<const Token> Decoder::step(int32_t limit) {
  if (verified_.failure) std::rethrow_exception(std::exchange(verified_.failure, nullptr));
  double ms = 0;
  int32_t k = 0;
  {
    const Stopwatch watch(ms);
    tree_.reset(tokens_.back());
    if (drafts()) {
      k = plan_nodes();
      draft_tree(k, std::min(limit - 1, options_.draft_depth));
    }
    call_target();
    verify_tree();
    learn();
    commit();
  }
  if (plans()) learn_from_plan(k, limit, ms);
  return verified_.emitted;
}

// Returns k of the next call.
int32_t Decoder::plan_nodes() {
  const auto n_cached = static_cast<int32_t>(history().size());
  cost_.set_n_cached(n_cached);
  drafter_->cost().set_n_cached(n_cached);
  const int32_t fixed = options_.draft_nodes == kAuto ? kRejectionNodes : options_.draft_nodes;
  shape_ = nullptr;
  ranks_ = histogram().probabilities();
  if (!plans()) return fixed;
  if (!chooses_nodes()) {
    controller_.plan_fixed(make_shape(fixed, options_.draft_depth), ranks(), costs());
    return fixed;
  }
  const auto n_missing = static_cast<int32_t>(history().size()) - drafter_->model().n_cached();
  const auto shapes = [&](int32_t k) -> const TreeShape& {
    return make_shape(k, options_.draft_depth);
  };
  return controller_.plan(shapes, ranks(), costs(), n_missing).nodes;
}

// Makes the shape of the strategy in use, or returns the last one if it is the same.
const TreeShape& Decoder::make_shape(int32_t k, int32_t max_depth) {
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
  return *(shape_ = &shapes_.build_optimal(ranks(), k, max_depth));
}

void Decoder::draft_tree(int32_t k, int32_t max_depth) {
  if (options_.strategy != Strategy::kAdaptive || k == 0 || max_depth == 0)
    return drafter_->draft(request(), make_shape(k, max_depth));
  const auto& plan = controller_.last_plan();
  const double min_tokens_per_ms = chooses_nodes() ? plan.tokens / plan.ms : 0;
  const CostCurve* target_cost = chooses_nodes() ? &cost_ : nullptr;
  drafter_->grow(request(), {k, max_depth, min_tokens_per_ms, target_cost}, knowledge().margins);
}

void Decoder::call_target() {
  if (std::exchange(root_decoded_, false)) return;
  for (auto n = static_cast<int32_t>(nodes_.size()); n < tree_.size(); ++n) nodes_.push_back(n);
  double ms = 0;
  {
    const Stopwatch watch(ms);
    target_.decode(history(), tree_, std::span(nodes_).first(tree_.size()));
  }
  cost_.learn(tree_.size(), ms);
  ++n_calls_;
  stats_.target_ms += ms;
}

void Decoder::verify_tree() {
  const Stopwatch watch(stats_.race_ms);
  const NodeInputs inputs{
      [this](int32_t node) {
        return processors_.process_target(history(), tree_, node, target_.logits(node));
      },
      [this](int32_t node) { return drafts() ? drafter_->at(node) : DraftRow(); },
      [this](int32_t node) { return processors_.allowed(history(), tree_, node); }};
  verify(tree_, inputs, static_cast<uint32_t>(history().size()), coupling_, verified_);
  logprobs_.clear();
  for (size_t i = 0; i < verified_.path.size() && options_.logprobs >= 0; ++i)
    logprobs_.push_back(
        logprobs_of_(target_.logits(verified_.path[i]), verified_.emitted[i], options_.logprobs));
}

// Learns from each verified position at which the draft was run.
void Decoder::learn() {
  const Stopwatch watch(stats_.race_ms);
  for (size_t i = 0; i < verified_.path.size(); ++i) {
    const int32_t node = verified_.path[i], rank = verified_.rank[i];
    if (rank < 0) continue;
    ++stats_.rank_histogram[std::min<size_t>(rank, RankHistogram::kRanks)];
    knowledge().ranks.learn(static_cast<size_t>(rank));
    if (options_.strategy == Strategy::kAdaptive) {
      const DraftRow draft = drafter_->at(node);
      knowledge().margins.learn(draft.order, draft.logits, coupling_.temperature(), rank);
    }
    if (corrects_draft())
      knowledge().correction.learn(tree_.token(node), target_.logits(node),
                                   drafter_->raw_logits(node), coupling_.temperature());
  }
}

void Decoder::commit() {
  target_.commit(tree_, verified_.path.back());
  if (drafts()) drafter_->model().commit(tree_, verified_.path.back());
  tokens_.insert(tokens_.end(), verified_.emitted.begin(), verified_.emitted.end());
  processors_.commit(tokens_);
  const auto count = [](std::vector<int64_t>& histogram, size_t n) {
    if (histogram.size() <= n) histogram.resize(n + 1);
    ++histogram[n];
  };
  const size_t n_accepted = verified_.path.size() - 1;
  count(stats_.acceptance_histogram, n_accepted);
  count(stats_.nodes_histogram, static_cast<size_t>(tree_.n_drafted()));
  ++stats_.target_calls;
  stats_.generated += static_cast<int64_t>(n_accepted) + 1;
  stats_.accepted += static_cast<int64_t>(n_accepted);
}

// Counts what was expected of a step, and learns from it. The end of an answer may have made the
// tree smaller than planned; then nothing is learnt.
void Decoder::learn_from_plan(int32_t k, int32_t limit, double ms) {
  stats_.expected_tokens += controller_.last_plan().tokens;
  stats_.expected_ms += controller_.last_plan().ms;
  if (limit > k) controller_.learn(static_cast<int32_t>(verified_.path.size()) - 1, ms);
}

RankedToken Decoder::step_with_rank() {
  tree_.reset(tokens_.back());
  drafter_->run_root(request());
  call_target();
  verify_tree();
  learn();
  const auto row = target_.logits(0);
  target_row_.assign(row.begin(), row.end());
  commit();
  return {verified_.emitted.front(), verified_.rank.front()};
}

void Decoder::shift(int32_t keep) {
  const Stopwatch watch(stats_.prefill_ms);
  const int64_t cached_tokens = stats_.cached_tokens;
  const int32_t n = std::max((static_cast<int32_t>(tokens_.size()) - keep) / 2, 1);
  tokens_.erase(tokens_.begin() + keep, tokens_.begin() + keep + n);
  coupling_.shift(n);
  processors_.shift(static_cast<size_t>(n));
  prefill();
  stats_.cached_tokens = cached_tokens;  // of the prompt, not of what is left of the text
}

void Decoder::forget() {
  knowledge_.fill({});
  controller_ = {};
  if (drafter_) drafter_->reset_threshold();
}

// Measures the costs of calls if they are not known, or if the calls of late disagreed with them,
// as those do that were measured in a busy moment.
void Decoder::measure() {
  const bool is_wrong = cost_.distrusted() || drafter_->cost().distrusted();
  if (cost_.measured() && !(is_wrong && n_calls_ - measured_at_call_ >= kTrustedCalls)) return;
  measured_at_call_ = n_calls_;
  ++n_measurements_;
  drafter_->cost().measure(drafter_->model(), kMeasureMs);
  cost_.measure(target_, kMeasureMs);
}

void Decoder::restore(const Profile& profile) {
  cost_ = profile.target;
  measured_at_call_ = n_calls_ - kTrustedCalls;  // a profile may be wrong from the first call on
  drafter_->cost() = profile.draft;
  knowledge_[static_cast<size_t>(Method::kErsd)] = profile.knowledge;
}

std::vector<DraftController::Plan> Decoder::forecast() {
  measure();
  shape_ = nullptr;
  ranks_ = histogram().probabilities();
  const auto shapes = [&](int32_t k) -> const TreeShape& {
    return make_shape(k, options_.draft_depth);
  };
  return controller_.forecast(shapes, ranks(), costs());
}

}  // namespace ersd
