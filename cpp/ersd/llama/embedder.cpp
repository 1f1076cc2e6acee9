// Texts side by side in one call, and the outputs that llama.cpp pools.
#include "ersd/llama/embedder.h"

#include <llama.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "ersd/check.h"
#include "ersd/llama/context_params.h"
#include "ersd/llama/cores.h"

namespace ersd::llama {
namespace {

// A call has at most so many texts: llama.cpp has as many sequences, and they need not be more than
// the tokens of a call.
int32_t texts_of_call(const EmbedderOptions& options) {
  check_at_least("n_ctx", options.context.n_ctx, 1);
  check_at_least("n_batch", options.context.n_batch, 1);
  check_at_least("n_ubatch", options.n_ubatch, 1);
  check_at_least("n_threads", options.context.n_threads, 0);
  check_between("pooling_type", options.pooling_type, -1, 4);
  check_between("attention_type", options.attention_type, -1, 1);
  return std::min(options.context.n_batch, static_cast<int32_t>(llama_max_parallel_sequences()));
}

llama_context_params params_of(const Model& model, const EmbedderOptions& options,
                               int32_t n_texts) {
  llama_context_params params = context_params(model, options.context);
  params.n_ctx = static_cast<uint32_t>(options.context.n_ctx);
  params.n_batch = static_cast<uint32_t>(options.context.n_batch);
  params.n_ubatch = static_cast<uint32_t>(std::min(options.n_ubatch, options.context.n_batch));
  params.n_seq_max = static_cast<uint32_t>(n_texts);
  params.n_threads = params.n_threads_batch =
      options.context.n_threads > 0 ? options.context.n_threads : default_n_threads();
  params.pooling_type = static_cast<enum llama_pooling_type>(options.pooling_type);
  params.attention_type = static_cast<llama_attention_type>(options.attention_type);
  params.embeddings = true;
  return params;
}

}  // namespace

Embedder::Embedder(const Model& model, const EmbedderOptions& options)
    : n_texts_(texts_of_call(options)),
      context_(model, params_of(model, options, n_texts_)),
      pooling_type_(llama_pooling_type(context_.get())),
      n_columns_(pooling_type_ == LLAMA_POOLING_TYPE_RANK
                     ? static_cast<int32_t>(llama_model_n_cls_out(model.get()))
                     : llama_model_n_embd_out(model.get())) {}

void Embedder::check(const std::vector<std::vector<Token>>& texts) const {
  check_between("embed: the number of texts", static_cast<int32_t>(texts.size()), 1, n_texts_);
  size_t n_tokens = 0;
  for (const auto& text : texts) {
    if (text.empty())
      throw std::invalid_argument("embed: a text must have at least one token, got none");
    n_tokens += text.size();
  }
  check_between("embed: the number of tokens of a call", static_cast<int32_t>(n_tokens), 1,
                n_batch());
}

std::vector<float> Embedder::embed(const std::vector<std::vector<Token>>& texts) {
  check(texts);
  if (llama_memory_t memory = llama_get_memory(context_.get())) llama_memory_clear(memory, true);
  for (size_t i = 0; i < texts.size(); ++i) context_.add(texts[i], 0, static_cast<int32_t>(i));
  const int32_t n_tokens = context_.decode();
  std::vector<float> rows;
  const auto take = [&](const float* row) {
    if (!row) throw std::runtime_error("llama.cpp gave no embedding of a text");
    rows.insert(rows.end(), row, row + n_columns_);
  };
  if (pooling_type_ == LLAMA_POOLING_TYPE_NONE)
    for (int32_t i = 0; i < n_tokens; ++i) take(llama_get_embeddings_ith(context_.get(), i));
  else
    for (int32_t i = 0; i < static_cast<int32_t>(texts.size()); ++i)
      take(llama_get_embeddings_seq(context_.get(), i));
  return rows;
}

}  // namespace ersd::llama
