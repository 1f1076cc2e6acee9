// A tree of llama.cpp's grammar samplers, one for each path that was asked about.
#include "ersd/llama/grammar.h"

#include <llama.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "ersd/llama/backend.h"

namespace ersd::llama {

namespace {

// allowed[i]: whether the grammar allows tokens[i] next, u8[tokens.size()].
void apply_grammar(llama_sampler* sampler, std::span<const Token> tokens,
                   std::span<uint8_t> allowed) {
  std::vector<llama_token_data> data;
  data.reserve(tokens.size());
  for (const Token token : tokens) data.push_back({token, 0.0f, 0.0f});
  llama_token_data_array candidates{data.data(), data.size(), -1, false};
  llama_sampler_apply(sampler, &candidates);
  for (size_t i = 0; i < tokens.size(); ++i) allowed[i] = candidates.data[i].logit > -INFINITY;
}

}  // namespace

void FreeSampler::operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }

Grammar::Grammar(const Model& model, const std::string& gbnf, size_t n_prompt)
    : model_(model), n_committed_(n_prompt) {
  clear_error();
  Sampler sampler(llama_sampler_init_grammar(model.vocab(), gbnf.c_str(), "root"));
  if (!sampler)
    throw std::invalid_argument(
        "grammar must be GBNF text with a rule 'root': llama.cpp cannot read it" + error_suffix());
  states_.push_back({-1, -1, Phase::kOpen, std::move(sampler)});
}

void Grammar::filter(std::span<const Token> history, std::span<const Token> tokens,
                     std::span<uint8_t> allowed) {
  const State& state = states_[static_cast<size_t>(find_or_add(history))];
  if (state.phase == Phase::kOpen) return apply_grammar(state.sampler.get(), tokens, allowed);
  std::fill(allowed.begin(), allowed.end(), state.phase == Phase::kEnded);
}

void Grammar::commit(std::span<const Token> history) {
  const auto last = static_cast<size_t>(find_or_add(history));
  State state = std::move(states_[last]);
  states_.clear();
  states_.push_back(std::move(state));
  n_committed_ = history.size();
}

// The index of the state after this history. States on the way that are missing are added.
int32_t Grammar::find_or_add(std::span<const Token> history) {
  int32_t state = 0;
  for (const Token token : history.subspan(n_committed_)) {
    auto next = static_cast<size_t>(state) + 1;
    while (next < states_.size() && (states_[next].parent != state || states_[next].token != token))
      ++next;
    state = next < states_.size() ? static_cast<int32_t>(next) : add(state, token);
  }
  return state;
}

int32_t Grammar::add(int32_t parent, Token token) {
  const State& before = states_[static_cast<size_t>(parent)];
  State state{token, parent, before.phase, nullptr};
  if (before.phase == Phase::kOpen) {
    // llama.cpp aborts the process if a sampler accepts a token that its grammar does not allow.
    uint8_t allowed = 0;
    apply_grammar(before.sampler.get(), {&token, 1}, {&allowed, 1});
    state.phase = !allowed ? Phase::kRefused : model_.is_end(token) ? Phase::kEnded : Phase::kOpen;
    if (state.phase == Phase::kOpen) {
      state.sampler.reset(llama_sampler_clone(before.sampler.get()));
      llama_sampler_accept(state.sampler.get(), token);
    }
  }
  states_.push_back(std::move(state));
  return static_cast<int32_t>(states_.size()) - 1;
}

}  // namespace ersd::llama
