// Embeddings of texts: the hidden states of a model's last layer, pooled as llama.cpp does.
#pragma once

#include <cstdint>
#include <vector>

#include "ersd/llama/context_options.h"
#include "ersd/llama/model.h"
#include "ersd/llama/plain_context.h"

namespace ersd::llama {

// The names are those of llama.cpp.
struct EmbedderOptions {
  ContextOptions context;       // sizes, threads, types and positions
  int32_t n_ubatch = 512;       // tokens that are computed at a time
  int32_t pooling_type = -1;    // -1: the model's own, 0: none, 1: mean, 2: cls, 3: last, 4: rank
  int32_t attention_type = -1;  // -1: the model's own, 0: causal, 1: every token sees all tokens
};

class Embedder {
 public:
  // The model must outlive the embedder. Throws std::invalid_argument for bad options and
  // std::runtime_error if llama.cpp has no room.
  Embedder(const Model& model, const EmbedderOptions& options);

  int32_t pooling_type() const { return pooling_type_; }
  int32_t n_batch() const { return context_.n_batch(); }  // tokens of a call at most
  int32_t n_texts() const { return n_texts_; }            // texts of a call at most
  int32_t n_columns() const { return n_columns_; }        // numbers in a row

  // Reads texts in one call, each as if it were alone. Returns the rows of embeddings one after the
  // other: with pooling one for each text, without one for each token. Throws std::invalid_argument
  // for no text, an empty one, or more of them than a call can have.
  std::vector<float> embed(const std::vector<std::vector<Token>>& texts);

 private:
  void check(const std::vector<std::vector<Token>>& texts) const;

  int32_t n_texts_;
  PlainContext context_;
  int32_t pooling_type_, n_columns_;
};

}  // namespace ersd::llama
