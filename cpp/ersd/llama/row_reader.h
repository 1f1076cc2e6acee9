// Reads one text and gives the logits of every token, not only of those that are decoded from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ersd/llama/context_options.h"
#include "ersd/llama/model.h"
#include "ersd/llama/plain_context.h"
#include "ersd/race/logprobs.h"

namespace ersd::llama {

class RowReader {
 public:
  // The model must outlive the reader. Throws std::invalid_argument for bad options and
  // std::runtime_error if llama.cpp has no room.
  RowReader(const Model& model, const ContextOptions& options);

  int32_t n_vocab() const { return n_vocab_; }

  // Keeps the first n_past tokens of the text, and reads more tokens after them, n_batch per call.
  // Returns their rows one after the other, f32[n * n_vocab]: row i predicts what follows token i.
  // Throws std::invalid_argument if the text has fewer than n_past tokens, or has no room.
  std::vector<float> read(std::span<const Token> tokens, int32_t n_past);

  // Reads a text. Returns the log-probability of each token but the first, with those of the n most
  // probable tokens in its place.
  std::vector<TokenLogprob> logprobs(std::span<const Token> tokens, int32_t n);

 private:
  void cut(int32_t n);
  void decode(std::span<const Token> tokens, std::vector<float>* rows);

  PlainContext context_;
  std::vector<Token> text_;  // the tokens in the cache
  int32_t n_vocab_, n_ctx_;
};

}  // namespace ersd::llama
