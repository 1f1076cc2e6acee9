// Generations from prompt to finish reason.
#include "ersd/generator.h"

#include <algorithm>
#include <limits>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/samplers.h"
#include "ersd/model/width_test.h"

namespace ersd {
namespace {

// Tokens in the cache when the test of widths runs again: llama.cpp's attention has paths that
// begin at 512.
constexpr int32_t kLongCache = 1024;

constexpr int32_t kMaxDefaultCtx = 4096;  // limit of the context length that a model chooses

}  // namespace

const char* to_string(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : reason == FinishReason::kLength ? "length" : "";
}

Generator::Generator(const std::string& target_path, const std::string& draft_path,
                     const Options& options, std::function<bool()> interrupted)
    : target_(target_path, options.model),
      context_shift_(options.context_shift),
      n_keep_option_(options.n_keep) {
  if (options.n_keep < -1)
    refuse("n_keep", "at least 0, or -1 for the whole prompt", options.n_keep);
  llama::ContextOptions context = options.context;
  if (context.n_ctx == 0) context.n_ctx = std::min(target_.n_ctx_train(), kMaxDefaultCtx);
  if (!draft_path.empty()) load_draft(draft_path, options);
  make_target_context(options, context, interrupted);
  if (draft_) {
    context.exact = context.ordered_cells = false;  // a draft may differ in its last bits
    draft_context_ = std::make_unique<llama::Context>(*draft_, context, std::move(interrupted));
  }
  decoder_ = std::make_unique<Decoder>(*target_context_, draft_context_.get());
}

// Makes a context that is exact if that is wanted and can be, and says in exactness_ what came of
// it. An exact context that fails the test of widths is given up, since its cache is slower.
void Generator::make_target_context(const Options& options, llama::ContextOptions context,
                                    const std::function<bool()>& interrupted) {
  context.exact = options.exact.value_or(draft_.has_value());
  context.ordered_cells = options.exact.value_or(true);
  context.max_nodes = draft_ || context.exact ? kMaxDraftNodes : 0;  // the test makes trees too
  if (context.exact && !options.exact && !target_.can_branch()) context.exact = false;
  target_context_ = std::make_unique<llama::Context>(target_, context, interrupted);
  if (!context.exact) {
    exactness_.reason =
        options.exact ? "exact=False was given" : "nothing drafts, so the cache is llama.cpp's own";
    return;
  }
  width_that_differs_ = options.width_that_differs;
  if (!width_that_differs_)
    width_that_differs_ = find_width_that_differs(*target_context_, kLongCache);
  if (*width_that_differs_ == 0) {
    exactness_ = {true, "calls of one and of several tokens give the same logits"};
    return;
  }
  exactness_.reason = "'" + target_.path() + "' (" + target_.description() +
                      ") gives other logits in calls of " + std::to_string(*width_that_differs_) +
                      " tokens than in calls of one";
  if (options.exact)
    throw std::invalid_argument("exact=True cannot hold: " + exactness_.reason +
                                ". On a CPU, a file in Q8_0 or Q4_0 without an adapter gives "
                                "the same (ersd quantize makes one)");
  context.exact = false;
  target_context_.reset();
  target_context_ = std::make_unique<llama::Context>(target_, context, interrupted);
}

void Generator::load_draft(const std::string& path, const Options& options) {
  llama::ModelOptions model_options = options.model;
  model_options.n_gpu_layers = options.draft_n_gpu_layers;
  model_options.lora_path.clear();
  draft_.emplace(path, model_options);
  for (const llama::Model* model : {&target(), draft()})
    if (!model->can_branch())
      throw std::invalid_argument("'" + model->path() + "' (" + model->architecture() +
                                  ") keeps one recurrent state and cannot hold a tree of drafts; "
                                  "it can be used without a draft model");
  llama::check_same_vocabulary(target_, *draft_);
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
  llama::init_backend();  // another user of llama.cpp may have taken its log
  options.validate();
  check_prompt(prompt);
  started_ = std::chrono::steady_clock::now();
  text_ = TextStream(options.stop);
  target_tokens_before_ = target_context_->n_decoded();
  draft_tokens_before_ = draft_ ? draft_context_->n_decoded() : 0;
  method_ = options.method;
  decoder_->start(
      prompt, options,
      llama::make_logits_processors(target_, options.processors, prompt.size(), n_ctx()));
  const int32_t most = context_shift_ ? std::numeric_limits<int32_t>::max() : decoder_->room();
  n_remain_ = options.max_tokens < 0 ? most : std::min(options.max_tokens, most);
  const auto n_prompt = static_cast<int32_t>(prompt.size());
  const bool has_bos = prompt.front() == target_.bos();
  const int32_t n_keep = n_keep_option_ < 0 ? n_prompt : n_keep_option_ + has_bos;
  n_keep_ = std::min({n_keep, n_prompt, n_ctx() / 2});
  active_ = true;
  update_totals();
}

GenerationStep Generator::step() {
  GenerationStep step;
  if (!active_) return step;
  if (n_remain_ == 0) {
    finish(FinishReason::kLength, step);
    return step;
  }
  active_ = false;  // if this step throws, the generation is over
  shift_if_full();
  const auto tokens = decoder_->step(std::min(n_remain_, decoder_->room()));
  active_ = true;
  fill_step(tokens, step);
  update_totals();
  return step;
}

RankedToken Generator::step_with_rank() {
  if (!draft_ || method_ == Method::kAr)
    throw std::invalid_argument(
        "ranks are places in a draft's order: they need a draft model and a method other than "
        "'ar'");
  if (n_remain() == 0) throw std::invalid_argument("the generation is over: start another");
  active_ = false;  // if this call throws, the generation is over
  shift_if_full();
  const RankedToken position = decoder_->step_with_rank();
  active_ = --n_remain_ > 0 && !target_.is_end(position.token);
  update_totals();
  return position;
}

void Generator::require_draft(const char* what) const {
  if (!draft_)
    throw std::invalid_argument(std::string(what) +
                                " describes a pair of models: it needs a draft model");
}

Profile Generator::profile() const {
  require_draft("a profile");
  return decoder_->profile();
}

void Generator::restore(const Profile& profile) {
  require_draft("a profile");
  decoder_->restore(profile);
}

std::vector<DraftController::Plan> Generator::forecast() {
  require_draft("a forecast");
  active_ = false;
  return decoder_->forecast();
}

void Generator::shift_if_full() {
  if (context_shift_ && decoder_->room() == 0) decoder_->shift(n_keep_);
}

void Generator::reset() {
  active_ = false;
  target_context_->rollback(0);
  if (draft_) draft_context_->rollback(0);
}

Generator::State Generator::save_state() {
  active_ = false;
  return {target_context_->save_state(),
          draft_ ? draft_context_->save_state() : llama::Context::State{}};
}

void Generator::load_state(const State& state) {
  reset();
  try {
    target_context_->load_state(state.target);
    if (draft_) draft_context_->load_state(state.draft);
  } catch (...) {
    reset();
    throw;
  }
}

// Puts the tokens of one target call into the step, up to an end token or a stop string.
void Generator::fill_step(std::span<const Token> tokens, GenerationStep& step) {
  FinishReason reason = FinishReason::kNone;
  size_t n_kept = 0;
  for (; n_kept < tokens.size() && reason == FinishReason::kNone; ++n_kept) {
    if (target_.is_end(tokens[n_kept])) {
      reason = FinishReason::kStop;
      break;  // an end token is not part of the answer
    }
    if (!text_.push(target_.piece(tokens[n_kept]), step.text)) reason = FinishReason::kStop;
  }
  const auto kept = tokens.first(n_kept);
  step.tokens.assign(kept.begin(), kept.end());
  const auto all_logprobs = decoder_->logprobs();
  const auto logprobs = all_logprobs.first(std::min(n_kept, all_logprobs.size()));
  step.logprobs.assign(logprobs.begin(), logprobs.end());
  step.n_accepted = static_cast<int32_t>(std::min(n_kept, tokens.size() - 1));
  n_remain_ -= static_cast<int32_t>(n_kept);
  uncount(tokens.size(), n_kept);
  if (reason == FinishReason::kNone && n_remain_ == 0) reason = FinishReason::kLength;
  if (reason != FinishReason::kNone) finish(reason, step);
}

// Takes the tokens of a target call that came after the end of the answer out of the stats. The
// last token of a call is the one that was not drafted.
void Generator::uncount(size_t n_decoded, size_t n_kept) {
  const size_t n_accepted = n_decoded - 1, n_accepted_kept = std::min(n_kept, n_accepted);
  Stats& stats = decoder_->stats();
  stats.generated -= static_cast<int64_t>(n_decoded - n_kept);
  stats.accepted -= static_cast<int64_t>(n_accepted - n_accepted_kept);
  --stats.acceptance_histogram[n_accepted];
  ++stats.acceptance_histogram[n_accepted_kept];
}

void Generator::finish(FinishReason reason, GenerationStep& step) {
  text_.finish(step.text);
  step.finish_reason = reason;
  active_ = false;
}

void Generator::update_totals() {
  Stats& stats = decoder_->stats();
  stats.target_tokens = target_context_->n_decoded() - target_tokens_before_;
  stats.draft_tokens = draft_ ? draft_context_->n_decoded() - draft_tokens_before_ : 0;
  stats.total_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started_)
          .count();
}

}  // namespace ersd
