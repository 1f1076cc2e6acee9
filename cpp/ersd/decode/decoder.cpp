// Drafting and verification in turn.
#include "ersd/decode/decoder.h"

#include <algorithm>
#include <utility>

#include "ersd/stopwatch.h"

namespace ersd {
namespace {

constexpr int32_t kRejectionNodes = 16;  // "auto" for rejection sampling
constexpr double kMeasureMs = 300;       // for the cost curve of each model, once

}  // namespace

Decoder::Decoder(LanguageModel& target, LanguageModel* draft) : target_(target) {
  if (draft) drafter_ = std::make_unique<Drafter>(*draft, target.n_vocab());
}

void Decoder::start(std::span<const Token> prompt, const GenerationOptions& options,
                    LogitsProcessorList processors) {
  options_ = options;
  processors_ = std::move(processors);
  verified_.failure = nullptr;
  if (!is_race(options.method)) learnt() = {};
  coupling_.reset(options.method, options.sampling, options.seed);
  stats_ = {};
  for (auto* counts : {&stats_.acceptance_histogram, &stats_.nodes_histogram})
    counts->reserve(kMaxDraftNodes + 1);
  tokens_.reserve(static_cast<size_t>(target_.n_ctx()) + 1);
  tokens_.assign(prompt.begin(), prompt.end());
  const Stopwatch watch(stats_.prefill_ms);
  if (drafting() && automatic()) measure();
  if (drafter_) {
    drafter_->set_correction(adapting() ? &learnt().correction : nullptr);
    drafter_->set_processors(&processors_);
  }
  controller_.replan();
  prefill();
}

void Decoder::prefill() {
  // Each model knows what it holds, whatever ran before and wherever it broke off.
  const auto keep_prefix = [&](LanguageModel& model) {
    const auto held = model.cached(), wanted = history();
    const auto parting =
        std::mismatch(held.begin(), held.end(), wanted.begin(), wanted.end()).first;
    model.rollback(is_race(options_.method) ? static_cast<int32_t>(parting - held.begin()) : 0);
  };
  keep_prefix(target_);
  stats_.cached_tokens = target_.n_cached();
  target_.decode(history(), tree_, {});
  if (!drafting()) return;
  keep_prefix(drafter_->model());
  if (plan_nodes() > 0) drafter_->model().decode(history(), tree_, {});
}

void Decoder::shift(int32_t keep) {
  const Stopwatch watch(stats_.prefill_ms);
  const int32_t n = std::max((static_cast<int32_t>(tokens_.size()) - keep) / 2, 1),
                cached = static_cast<int32_t>(stats_.cached_tokens);
  tokens_.erase(tokens_.begin() + keep, tokens_.begin() + keep + n);
  coupling_.shift(n);
  processors_.shift(static_cast<size_t>(n));
  prefill();
  stats_.cached_tokens = cached;
}

void Decoder::forget() {
  learnt_.fill({});
  controller_ = {};
  if (drafter_) drafter_->forget();
}

void Decoder::measure() {
  if (cost_.measured()) return;
  drafter_->cost().measure(drafter_->model(), kMeasureMs);
  cost_.measure(target_, kMeasureMs);
}

void Decoder::restore(const Profile& profile) {
  cost_ = profile.target;
  drafter_->cost() = profile.draft;
  learnt_[static_cast<size_t>(Method::kErsd)] = profile.learnt;
}

std::vector<Controller::Plan> Decoder::forecast() {
  measure();
  shape_ = nullptr;
  const auto ranks = histogram().probabilities();
  return controller_.forecast(
      [&](int32_t k) -> const TreeShape& { return tree_shape(k, options_.draft_depth); },
      std::span(ranks).first(RankHistogram::kRanks), cost_, drafter_->cost());
}

// k of the next call.
int32_t Decoder::plan_nodes() {
  const int32_t fixed = options_.draft_nodes == kAuto ? kRejectionNodes : options_.draft_nodes;
  shape_ = nullptr;
  if (!expecting()) return fixed;
  const auto ranks = histogram().probabilities();
  if (!automatic()) {
    controller_.plan_fixed(tree_shape(fixed, options_.draft_depth),
                           std::span(ranks).first(RankHistogram::kRanks), cost_, drafter_->cost());
    return fixed;
  }
  const auto missing = static_cast<int32_t>(history().size()) - drafter_->model().n_cached();
  const auto tree = [&](int32_t k) -> const TreeShape& {
    return tree_shape(k, options_.draft_depth);
  };
  return controller_
      .plan(tree, std::span(ranks).first(RankHistogram::kRanks), cost_, drafter_->cost(), missing)
      .nodes;
}

// Of the strategy in use, by the ranks seen until nodes() was called.
const TreeShape& Decoder::tree_shape(int32_t k, int32_t max_depth) {
  if (shape_ && shape_nodes_ == k && shape_depth_ == max_depth) return *shape_;
  shape_nodes_ = k, shape_depth_ = max_depth;
  if (max_depth < 1) k = 0;
  switch (options_.strategy) {
    case Strategy::kSimple:
      return *(shape_ = &shape_builder_.sequence(std::min(k, 1), max_depth));
    case Strategy::kSequence:
      return *(shape_ = &shape_builder_.sequence(k, max_depth));
    case Strategy::kBatch:
      return *(shape_ = &shape_builder_.batch(k));
    case Strategy::kTree:
    case Strategy::kAdaptive:
      break;
  }
  const auto ranks = histogram().probabilities();
  return *(shape_ = &shape_builder_.optimal(std::span(ranks).first(RankHistogram::kRanks), k,
                                            max_depth));
}

std::span<const Token> Decoder::step(int32_t limit) {
  if (verified_.failure) std::rethrow_exception(std::exchange(verified_.failure, nullptr));
  double ms = 0;
  int32_t k = 0;
  {
    const Stopwatch watch(ms);
    tree_.reset(tokens_.back());
    if (drafting()) draft(k = plan_nodes(), std::min(limit - 1, options_.draft_depth));
    check();
    commit();
  }
  if (drafting() && expecting()) {
    stats_.expected_tokens += controller_.expected().tokens;
    stats_.expected_ms += controller_.expected().ms;
    // The end of an answer may have made the tree smaller than planned.
    if (limit > k) controller_.learn(static_cast<int32_t>(verified_.path.size()) - 1, ms);
  }
  return verified_.emitted;
}

void Decoder::draft(int32_t k, int32_t max_depth) {
  if (options_.strategy != Strategy::kAdaptive || k == 0 || max_depth == 0)
    return drafter_->draft(history(), tree_shape(k, max_depth), coupling_, tree_, stats_);
  const auto& plan = controller_.expected();
  drafter_->grow(history(), k, max_depth, automatic() ? plan.tokens / plan.ms : 0, coupling_,
                 learnt().margins, tree_, stats_);
}

RankedToken Decoder::step_with_rank() {
  tree_.reset(tokens_.back());
  drafter_->draft_root(history(), tree_, coupling_, stats_);
  check();
  const auto row = target_.logits(0);
  target_row_.assign(row.begin(), row.end());
  commit();
  return {verified_.emitted.front(), verified_.rank.front()};
}

void Decoder::check() {
  for (auto n = static_cast<int32_t>(nodes_.size()); n < tree_.size(); ++n) nodes_.push_back(n);
  double ms = 0;
  {
    const Stopwatch watch(ms);
    target_.decode(history(), tree_, std::span(nodes_).first(tree_.size()));
  }
  cost_.learn(tree_.size(), ms);
  stats_.target_ms += ms;
  const Stopwatch watch(stats_.race_ms);
  const auto draft = [&](int32_t node) {
    return drafting() ? Drafted{drafter_->row(node), drafter_->order(node)} : Drafted();
  };
  const auto target = [&](int32_t node) {
    return processors_.target(history(), tree_, node, target_.logits(node));
  };
  const auto filter = [&](int32_t node) { return processors_.allowed(history(), tree_, node); };
  verify(tree_, target, draft, filter, static_cast<uint32_t>(history().size()), coupling_,
         verified_);
  logprobs_.clear();
  for (size_t i = 0; i < verified_.path.size() && options_.logprobs >= 0; ++i)
    logprobs_.push_back(
        logprobs_of_(target_.logits(verified_.path[i]), verified_.emitted[i], options_.logprobs));
  learn();
}

void Decoder::learn() {
  for (size_t i = 0; i < verified_.path.size(); ++i) {
    const int32_t node = verified_.path[i], rank = verified_.rank[i];
    if (rank < 0) continue;
    ++stats_.rank_histogram[std::min<size_t>(rank, RankHistogram::kRanks)];
    learnt().ranks.learn(static_cast<size_t>(rank));
    if (options_.strategy == Strategy::kAdaptive)
      learnt().margins.learn(drafter_->order(node), drafter_->row(node), coupling_.temperature(),
                             rank);
    if (adapting())
      learnt().correction.learn(tree_.token(node), target_.logits(node), drafter_->raw_row(node),
                                coupling_.temperature());
  }
}

void Decoder::commit() {
  target_.commit(tree_, verified_.path.back());
  if (drafting()) drafter_->model().commit(tree_, verified_.path.back());
  const size_t n_accepted = verified_.path.size() - 1;
  tokens_.insert(tokens_.end(), verified_.emitted.begin(), verified_.emitted.end());
  processors_.commit(tokens_);
  ++stats_.target_calls;
  stats_.generated += static_cast<int64_t>(n_accepted) + 1;
  stats_.accepted += static_cast<int64_t>(n_accepted);
  if (stats_.acceptance_histogram.size() <= n_accepted)
    stats_.acceptance_histogram.resize(n_accepted + 1);
  ++stats_.acceptance_histogram[n_accepted];
  const auto n_drafted = static_cast<size_t>(tree_.n_drafted());
  if (stats_.nodes_histogram.size() <= n_drafted) stats_.nodes_histogram.resize(n_drafted + 1);
  ++stats_.nodes_histogram[n_drafted];
}

}  // namespace ersd
