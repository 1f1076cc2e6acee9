// A GBNF grammar that says which tokens may follow the answer so far. It uses llama.cpp's grammar
// sampler and keeps one copy of it for each path of a draft tree.
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
  // gbnf needs a rule "root"; n_prompt is the number of tokens before the answer. The model must
  // outlive the grammar. Throws std::invalid_argument if llama.cpp cannot read the grammar. An end
  // token is allowed once the answer is complete. After an end token every token is allowed,
  // because the answer has ended.
  Grammar(const Model& model, const std::string& gbnf, size_t n_prompt);

  void filter(std::span<const Token> history, std::span<const Token> tokens,
              std::span<uint8_t> allowed) override;
  void commit(std::span<const Token> history) override;
  void shift(size_t n) override { n_committed_ -= n; }

 private:
  enum class Phase {
    kOpen,     // the grammar says what may follow
    kEnded,    // after an end token: every token may follow
    kRefused,  // after a token that the grammar does not allow: nothing may follow
  };
  // The grammar's state after one token of a path.
  struct State {
    Token token;
    int32_t parent;  // index of the state before the token, -1 for the root
    Phase phase;
    Sampler sampler;  // llama.cpp's state; null unless the phase is kOpen
  };
  int32_t find_or_add(std::span<const Token> history);
  int32_t add(int32_t parent, Token token);

  const Model& model_;
  size_t n_committed_;         // tokens of the history that led to states_[0]
  std::vector<State> states_;  // a tree, parents before children
};

}  // namespace ersd::llama
