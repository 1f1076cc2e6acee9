// A generation from prompt to finish reason.
#include "ersd/generator.h"

#include <algorithm>
#include <limits>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/samplers.h"

namespace ersd {

const char* to_string(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : reason == FinishReason::kLength ? "length" : "";
}

Generator::Generator(const std::string& target_path, const std::string& draft_path,
                     const Options& options, std::function<bool()> interrupted)
    : target_(target_path, options.target),
      context_shift_(options.context_shift),
      n_keep_(options.n_keep) {
  if (n_keep_ < -1) refuse("n_keep", "at least 0, or -1 for the whole prompt", n_keep_);
  llama::ContextOptions context = options.context;
  if (context.n_ctx == 0) context.n_ctx = std::min(target_.n_ctx_train(), 4096);
  if (!draft_path.empty()) {
    draft_.emplace(draft_path, options.draft);
    for (const llama::Model* model : {&target(), draft()})
      if (!model->can_branch())
        throw std::invalid_argument("'" + model->path() + "' (" + model->architecture() +
                                    ") keeps one recurrent state and cannot hold a tree of drafts; "
                                    "it can be used without a draft model");
    llama::check_same_vocabulary(target_, *draft_);
  }
  target_context_ = std::make_unique<llama::Context>(target_, context, interrupted);
  if (draft_) {
    context.exact = false;
    draft_context_ = std::make_unique<llama::Context>(*draft_, context, std::move(interrupted));
  }
  decoder_ = std::make_unique<Decoder>(*target_context_, draft_context_.get());
}

void Generator::check_prompt(const std::vector<Token>& prompt) const {
  if (prompt.empty())
    throw std::invalid_argument("the prompt is empty, expected at least one token");
  if (prompt.size() >= static_cast<size_t>(n_ctx()))
    throw std::invalid_argument("the prompt has " + std::to_string(prompt.size()) +
                                " tokens, the context of " + std::to_string(n_ctx()) +
                                " (n_ctx) has room for " + std::to_string(n_ctx() - 1) +
                                " and one to generate");
  for (const Token token : prompt) check_between("prompt tokens", token, 0, target_.n_vocab() - 1);
}

void Generator::start(const std::vector<Token>& prompt, const GenerationOptions& options) {
  active_ = false;
  llama::start();  // the log may have gone to another user of llama.cpp
  options.validate();
  check_prompt(prompt);
  started_ = std::chrono::steady_clock::now();
  text_ = TextStream(options.stop);
  target_before_ = target_context_->n_decoded();
  draft_before_ = draft_ ? draft_context_->n_decoded() : 0;
  method_ = options.method;
  decoder_->start(
      prompt, options,
      llama::make_logits_processors(target_, options.processors, prompt.size(), n_ctx()));
  const int32_t most = context_shift_ ? std::numeric_limits<int32_t>::max() : decoder_->room();
  left_ = options.max_tokens < 0 ? most : std::min(options.max_tokens, most);
  const auto n_prompt = static_cast<int32_t>(prompt.size());
  keep_ = std::min({n_keep_ < 0 ? n_prompt : n_keep_ + (prompt.front() == target_.bos()), n_prompt,
                    n_ctx() / 2});
  active_ = true;
  update_totals();
}

GenerationStep Generator::step() {
  GenerationStep step;
  if (!active_) return step;
  if (left_ == 0) {
    finish(FinishReason::kLength, step);
    return step;
  }
  active_ = false;  // until this step has gone well
  make_room();
  const auto tokens = decoder_->step(std::min(left_, decoder_->room()));
  active_ = true;
  take(tokens, step);
  update_totals();
  return step;
}

RankedToken Generator::step_with_rank() {
  if (!draft_ || method_ == Method::kAr)
    throw std::invalid_argument(
        "ranks are those in a draft's order: they need a draft model and a method other than 'ar'");
  if (left() == 0) throw std::invalid_argument("the generation is over: start another");
  active_ = false;  // until this call has gone well
  make_room();
  const RankedToken position = decoder_->step_with_rank();
  active_ = --left_ > 0 && !target_.is_end(position.token);
  update_totals();
  return position;
}

void Generator::need_draft(const char* what) const {
  if (!draft_)
    throw std::invalid_argument(std::string(what) + " is that of a pair: it needs a draft model");
}

Profile Generator::profile() const {
  need_draft("a profile");
  return decoder_->profile();
}

void Generator::restore(const Profile& profile) {
  need_draft("a profile");
  decoder_->restore(profile);
}

std::vector<Controller::Plan> Generator::forecast() {
  need_draft("a forecast");
  active_ = false;
  return decoder_->forecast();
}

void Generator::make_room() {
  if (context_shift_ && decoder_->room() == 0) decoder_->shift(keep_);
}

void Generator::reset() {
  active_ = false;
  target_context_->rollback(0);
  if (draft_) draft_context_->rollback(0);
}

Generator::State Generator::save() {
  active_ = false;
  return {target_context_->save(), draft_ ? draft_context_->save() : llama::Context::State{}};
}

void Generator::load(const State& state) {
  reset();
  try {
    target_context_->load(state.target);
    if (draft_) draft_context_->load(state.draft);
  } catch (...) {
    reset();
    throw;
  }
}

void Generator::take(std::span<const Token> tokens, GenerationStep& step) {
  FinishReason reason = FinishReason::kNone;
  size_t kept = 0;
  for (; kept < tokens.size() && reason == FinishReason::kNone; ++kept) {
    if (target_.is_end(tokens[kept])) {
      reason = FinishReason::kStop;
      break;  // an end token is no part of the answer
    }
    if (!text_.push(target_.piece(tokens[kept]), step.text)) reason = FinishReason::kStop;
  }
  step.tokens.assign(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(kept));
  const auto logprobs = decoder_->logprobs();
  step.logprobs.assign(logprobs.begin(),
                       logprobs.begin() + static_cast<ptrdiff_t>(std::min(kept, logprobs.size())));
  step.n_accepted = static_cast<int32_t>(std::min(kept, tokens.size() - 1));
  left_ -= static_cast<int32_t>(kept);
  // What was decoded past the end is not part of the answer and not counted.
  Stats& stats = decoder_->stats();
  stats.generated -= static_cast<int64_t>(tokens.size() - kept);
  stats.accepted -= static_cast<int64_t>(tokens.size() - 1) - step.n_accepted;
  --stats.acceptance_histogram[tokens.size() - 1];
  ++stats.acceptance_histogram[static_cast<size_t>(step.n_accepted)];
  if (reason == FinishReason::kNone && left_ == 0) reason = FinishReason::kLength;
  if (reason != FinishReason::kNone) finish(reason, step);
}

void Generator::finish(FinishReason reason, GenerationStep& step) {
  text_.finish(step.text);
  step.finish_reason = reason;
  active_ = false;
}

void Generator::update_totals() {
  Stats& stats = decoder_->stats();
  stats.target_tokens = target_context_->n_decoded() - target_before_;
  stats.draft_tokens = draft_ ? draft_context_->n_decoded() - draft_before_ : 0;
  stats.total_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started_)
          .count();
}

}  // namespace ersd
