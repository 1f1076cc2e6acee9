// A context of llama.cpp without trees: one call reads rows of tokens, each with an output.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/llama/device_memory.h"
#include "ersd/llama/model.h"

struct llama_context;
struct llama_context_params;

namespace ersd::llama {

class PlainContext {
 public:
  // The model must outlive the context. The adapter of the model is applied. Throws
  // std::runtime_error as make_context() does.
  PlainContext(const Model& model, const llama_context_params& params);

  llama_context* get() const { return context_.get(); }
  int32_t n_batch() const;  // tokens of a call at most

  // Adds tokens of a sequence to the next call, from a position on. Throws std::invalid_argument
  // for a token that the vocabulary lacks.
  void add(std::span<const Token> tokens, int32_t position, int32_t sequence);
  // Makes the call and returns its number of tokens. Throws std::runtime_error if llama.cpp fails,
  // also if more tokens were added than n_batch().
  int32_t decode();

 private:
  OwnedContext context_;
  int32_t n_vocab_;
  std::vector<Token> tokens_;       // i32[n], of the next call
  std::vector<int32_t> positions_;  // i32[n]
  std::vector<int32_t> sequences_;  // i32[n]
};

}  // namespace ersd::llama
