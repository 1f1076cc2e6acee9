// From the tokens of a sequence to steps of text.
#include "ersd/request.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace ersd {

const char* to_string(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : reason == FinishReason::kLength ? "length" : "";
}

Request::Request(std::unique_ptr<Sequence> sequence, Vocabulary vocabulary, const Options& options)
    : sequence_(std::move(sequence)),
      vocabulary_(std::move(vocabulary)),
      options_(options),
      text_(sequence_->options().stop) {
  const int32_t most =
      options.context_shift ? std::numeric_limits<int32_t>::max() : sequence_->room();
  const int32_t wanted = sequence_->options().max_tokens;
  n_remain_ = wanted < 0 ? most : std::min(wanted, most);
  if (options.wants_ranks) sequence_->want_ranks();
}

std::optional<GenerationStep> Request::take() {
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    if (cancelled_) return std::nullopt;
    if (!untaken_.empty()) {
      taken_ = std::move(untaken_.front());
      untaken_.pop_front();
      return std::move(taken_.step);
    }
    error = std::exchange(error_, nullptr);
  }
  if (error) std::rethrow_exception(error);
  return std::nullopt;
}

bool Request::done() const {
  const std::lock_guard lock(mutex_);
  return cancelled_ || (ended_ && untaken_.empty() && !error_);
}

void Request::cancel() {
  std::exception_ptr dropped;  // deleted after the lock is released: it may hold Python objects
  const std::lock_guard lock(mutex_);
  dropped = std::exchange(error_, nullptr);
  cancelled_ = true;
  untaken_.clear();
}

Stats Request::stats() const {
  const std::lock_guard lock(mutex_);
  return taken_.stats;
}

int32_t Request::rank() const {
  const std::lock_guard lock(mutex_);
  return taken_.rank;
}

std::vector<float> Request::target_row() const {
  const std::lock_guard lock(mutex_);
  return taken_.target_row;
}

std::vector<float> Request::draft_row() const {
  const std::lock_guard lock(mutex_);
  return taken_.draft_row;
}

bool Request::paused() const {
  const std::lock_guard lock(mutex_);
  return untaken_.size() >= kMaxUntaken;
}

void Request::begin() {
  if (!started_) started_ = std::chrono::steady_clock::now();
}

void Request::prepare(Engine& engine) {
  if (options_.context_shift && sequence_->room() == 0) engine.shift(*sequence_, options_.n_keep);
  sequence_->set_limit(std::min(n_remain_, sequence_->room()));
}

bool Request::collect() {
  const bool goes_on = n_remain_ > 0 && !sequence_->failure();
  if (goes_on && sequence_->emitted().empty()) return true;  // the prompt is being read
  Untaken untaken;
  if (n_remain_ == 0 || !sequence_->emitted().empty())
    options_.wants_ranks ? fill_rank(untaken) : fill_text(untaken);
  const bool finished = untaken.step.finish_reason != FinishReason::kNone;
  const bool has_step = finished || !untaken.step.tokens.empty();
  update_total_ms();
  untaken.stats = sequence_->stats();
  const std::lock_guard lock(mutex_);
  if (has_step && !cancelled_) untaken_.push_back(std::move(untaken));
  ended_ = finished || sequence_->failure();
  if (!finished && !cancelled_) error_ = sequence_->failure();
  return !ended_;
}

void Request::end(std::exception_ptr error) {
  const std::unique_ptr<Sequence> released = std::move(sequence_);  // after the lock is released
  const std::lock_guard lock(mutex_);
  if (!ended_ && !cancelled_) error_ = std::move(error);
  ended_ = true;
}

// Puts the tokens of one target call into the step, up to an end token or a stop string.
void Request::fill_text(Untaken& untaken) {
  GenerationStep& step = untaken.step;
  const auto tokens = sequence_->emitted();
  FinishReason reason = FinishReason::kNone;
  size_t n_kept = 0;
  for (; n_kept < tokens.size() && reason == FinishReason::kNone; ++n_kept) {
    if (vocabulary_.is_end(tokens[n_kept])) {
      reason = FinishReason::kStop;
      step.end_token = tokens[n_kept];
      sequence_->stats().end_tokens = 1;
      break;  // an end token is not part of the answer
    }
    if (!text_.push(vocabulary_.piece(tokens[n_kept]), step.text)) reason = FinishReason::kStop;
  }
  const auto kept = tokens.first(n_kept);
  step.tokens.assign(kept.begin(), kept.end());
  const auto all_logprobs = sequence_->logprobs();
  const auto logprobs = all_logprobs.first(std::min(n_kept, all_logprobs.size()));
  step.logprobs.assign(logprobs.begin(), logprobs.end());
  if (!tokens.empty()) {
    step.n_accepted = static_cast<int32_t>(std::min(n_kept, tokens.size() - 1));
    if (sequence_->options().draft_trees) {
      const auto nodes = sequence_->tree().tokens();
      const auto parents = sequence_->tree().parents();
      const auto accepted = sequence_->accepted();
      const auto sources = sequence_->tree().sources();
      step.tree = {{nodes.begin(), nodes.end()},
                   {parents.begin(), parents.end()},
                   {accepted.begin(), accepted.end()},
                   {sources.begin(), sources.end()}};
    }
    for (const int32_t node :
         sequence_->accepted().subspan(1).first(static_cast<size_t>(step.n_accepted)))
      step.sources.push_back(sequence_->tree().sources(node));
    uncount(tokens.size(), n_kept);
  }
  n_remain_ -= static_cast<int32_t>(n_kept);
  if (reason == FinishReason::kNone && n_remain_ == 0) reason = FinishReason::kLength;
  if (reason != FinishReason::kNone) text_.finish(step.text);
  step.finish_reason = reason;
}

// Puts the one token of a step with ranks into the step. An end token is the last position.
void Request::fill_rank(Untaken& untaken) {
  if (n_remain_ > 0) {
    const Token token = sequence_->emitted().front();
    const auto target_row = sequence_->target_row(), draft_row = sequence_->draft_row();
    untaken.step.tokens.assign(1, token);
    untaken.rank = sequence_->rank();
    untaken.target_row.assign(target_row.begin(), target_row.end());
    untaken.draft_row.assign(draft_row.begin(), draft_row.end());
    --n_remain_;
    if (vocabulary_.is_end(token)) untaken.step.finish_reason = FinishReason::kStop;
  }
  if (untaken.step.finish_reason == FinishReason::kNone && n_remain_ == 0)
    untaken.step.finish_reason = FinishReason::kLength;
}

// Takes the tokens of a target call that came after the end of the answer out of the stats. The
// last token of a call is the one that was not drafted.
void Request::uncount(size_t n_decoded, size_t n_kept) {
  const size_t n_accepted = n_decoded - 1, n_accepted_kept = std::min(n_kept, n_accepted);
  Stats& stats = sequence_->stats();
  for (const int32_t node : sequence_->accepted().subspan(1 + n_accepted_kept))
    count_sources(stats.accepted_by, sequence_->tree().sources(node), -1);
  stats.generated -= static_cast<int64_t>(n_decoded - n_kept);
  stats.accepted -= static_cast<int64_t>(n_accepted - n_accepted_kept);
  --stats.acceptance_histogram[n_accepted];
  ++stats.acceptance_histogram[n_accepted_kept];
}

void Request::update_total_ms() {
  if (!started_) return;
  sequence_->stats().total_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - *started_)
          .count();
}

}  // namespace ersd
