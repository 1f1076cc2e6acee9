// A GBNF grammar over a model's tokens: which may come after the answer so far. llama.cpp's own,
// with its states kept along the paths of a tree.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ersd/llama/model.h"
#include "ersd/verify/logits_processor.h"

struct llama_sampler;

namespace ersd::llama {

struct FreeSampler {
  void operator()(llama_sampler* sampler) const;
};
using Sampler = std::unique_ptr<llama_sampler, FreeSampler>;

class Grammar : public TokenFilter {
 public:
  // gbnf: with a rule "root"; n_prompt: tokens before the answer. The model must outlive the
  // grammar. Throws std::invalid_argument for text that is no grammar. End tokens may come where
  // the answer is complete; after one, anything may, as nothing of it is shown.
  Grammar(const Model& model, const std::string& gbnf, size_t n_prompt);

  void filter(std::span<const Token> history, std::span<const Token> tokens,
              std::span<uint8_t> allowed) override;
  void commit(std::span<const Token> history) override;
  void shift(size_t n) override { n_committed_ -= n; }

 private:
  // What follows a token: nothing where the grammar refuses it.
  enum class Phase { kOpen, kEnded, kRefused };
  struct State {
    Token token;
    int32_t parent;
    Phase phase;
    Sampler sampler;  // where it is open
  };
  int32_t find(std::span<const Token> history);
  int32_t add(int32_t parent, Token token);

  const Model& model_;
  size_t n_committed_;         // tokens before states_[0]
  std::vector<State> states_;  // parents before children
};

}  // namespace ersd::llama
