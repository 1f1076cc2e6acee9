// llama.cpp's samplers as logits processors, applied only to the tokens that they can change.
#include "ersd/llama/samplers.h"

#include <llama.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <stdexcept>

#include "ersd/check.h"

namespace ersd::llama {
namespace {

struct FreeSampler {
  void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using Sampler = std::unique_ptr<llama_sampler, FreeSampler>;

class LogitBias : public LogitsProcessor {
 public:
  explicit LogitBias(std::vector<std::pair<Token, float>> bias) : bias_(std::move(bias)) {}

  void process(std::span<const Token> /*history*/, std::span<float> logits) override {
    for (const auto& [token, bias] : bias_)
      if (static_cast<size_t>(token) < logits.size()) logits[static_cast<size_t>(token)] += bias;
  }

 private:
  std::vector<std::pair<Token, float>> bias_;
};

// A sampler that changes only the logits of recent tokens, each on its own. So it gets only these
// tokens instead of the whole vocabulary.
class HistorySampler : public LogitsProcessor {
 public:
  // The sampler does not see the first n_unseen tokens of a history.
  HistorySampler(llama_sampler* sampler, int32_t last_n, size_t n_unseen)
      : sampler_(sampler), last_n_(static_cast<size_t>(last_n)), n_unseen_(n_unseen) {}

  void process(std::span<const Token> history, std::span<float> logits) override {
    const size_t n_seen = history.size() - std::min(n_unseen_, history.size());
    const auto recent = history.last(std::min(last_n_, n_seen));
    llama_sampler_reset(sampler_.get());
    for (const Token token : recent) llama_sampler_accept(sampler_.get(), token);
    tokens_.assign(recent.begin(), recent.end());
    std::sort(tokens_.begin(), tokens_.end());
    tokens_.erase(std::unique(tokens_.begin(), tokens_.end()), tokens_.end());
    data_.clear();
    for (const Token token : tokens_)
      if (static_cast<size_t>(token) < logits.size())
        data_.push_back({token, logits[static_cast<size_t>(token)], 0});
    llama_token_data_array candidates{data_.data(), data_.size(), -1, false};
    llama_sampler_apply(sampler_.get(), &candidates);
    for (size_t i = 0; i < candidates.size; ++i)
      logits[static_cast<size_t>(candidates.data[i].id)] = candidates.data[i].logit;
  }

 private:
  Sampler sampler_;
  size_t last_n_, n_unseen_;
  std::vector<Token> tokens_;
  std::vector<llama_token_data> data_;
};

std::shared_ptr<LogitsProcessor> penalties(const Model& model, const LogitsProcessorOptions& o,
                                           size_t n_prompt, int32_t n_ctx) {
  const int32_t last_n = o.penalty_last_n < 0 ? n_ctx : o.penalty_last_n;
  if (last_n == 0 || (o.repeat_penalty == 1 && o.frequency_penalty == 0 && o.presence_penalty == 0))
    return nullptr;
  return std::make_shared<HistorySampler>(
      llama_sampler_init_penalties(model.n_vocab(), last_n, o.repeat_penalty, o.frequency_penalty,
                                   o.presence_penalty),
      last_n, o.penalize_prompt ? 0 : n_prompt);
}

std::shared_ptr<LogitsProcessor> dry(const Model& model, const LogitsProcessorOptions& o,
                                     int32_t n_ctx) {
  const int32_t last_n = o.dry_penalty_last_n < 0 ? n_ctx : o.dry_penalty_last_n;
  if (o.dry_multiplier == 0 || last_n == 0) return nullptr;
  std::vector<const char*> breakers;
  for (const auto& text : o.dry_sequence_breakers) breakers.push_back(text.c_str());
  return std::make_shared<HistorySampler>(
      llama_sampler_init_dry(model.vocab(), o.dry_multiplier, o.dry_base, o.dry_allowed_length,
                             last_n, breakers.data(), breakers.size()),
      last_n, 0);
}

std::shared_ptr<LogitsProcessor> bias(const Model& model, const LogitsProcessorOptions& o) {
  auto all = o.logit_bias;
  for (const auto& [token, _] : all)
    if (token < 0 || token >= model.n_vocab())
      refuse("logit_bias", "of tokens between 0 and " + std::to_string(model.n_vocab() - 1), token);
  for (Token token = 0; o.ignore_eos && token < model.n_vocab(); ++token)
    if (model.is_end(token)) all.emplace_back(token, -std::numeric_limits<float>::infinity());
  return all.empty() ? nullptr : std::make_shared<LogitBias>(std::move(all));
}

}  // namespace

LogitsProcessorList make_logits_processors(const Model& model,
                                           const LogitsProcessorOptions& options, size_t n_prompt,
                                           int32_t n_ctx) {
  LogitsProcessorList processors;
  if (options.logits_processor) processors.add_for_target(options.logits_processor);
  for (auto& processor : {bias(model, options), penalties(model, options, n_prompt, n_ctx),
                          dry(model, options, n_ctx)})
    if (processor) processors.add(processor);
  if (options.grammar)
    processors.restrict_to(
        {options.grammar->start(), n_prompt, model.n_vocab(), model.piece_lengths()});
  return processors;
}

}  // namespace ersd::llama
