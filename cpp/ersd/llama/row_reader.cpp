// A text that is read once, with all its logits.
#include "ersd/llama/row_reader.h"

#include <llama.h>

#include <algorithm>

#include "ersd/check.h"
#include "ersd/llama/context_params.h"
#include "ersd/llama/cores.h"

namespace ersd::llama {
namespace {

llama_context_params params_of(const Model& model, const ContextOptions& options) {
  check_at_least("n_ctx", options.n_ctx, 1);
  check_at_least("n_batch", options.n_batch, 1);
  check_at_least("n_threads", options.n_threads, 0);
  llama_context_params params = context_params(model, options);
  params.n_ctx = static_cast<uint32_t>(options.n_ctx);
  params.n_batch = params.n_ubatch =
      static_cast<uint32_t>(std::min(options.n_batch, options.n_ctx));
  params.n_threads = params.n_threads_batch =
      options.n_threads > 0 ? options.n_threads : default_n_threads();
  params.n_seq_max = 1;
  return params;
}

}  // namespace

RowReader::RowReader(const Model& model, const ContextOptions& options)
    : context_(model, params_of(model, options)),
      n_vocab_(model.n_vocab()),
      n_ctx_(options.n_ctx) {}

std::vector<float> RowReader::read(std::span<const Token> tokens, int32_t n_past) {
  check_between("n_past", n_past, 0, static_cast<int32_t>(text_.size()));
  check_between("the number of tokens", n_past + static_cast<int32_t>(tokens.size()), 0, n_ctx_);
  cut(n_past);
  std::vector<float> rows;
  rows.reserve(tokens.size() * static_cast<size_t>(n_vocab_));
  decode(tokens, &rows);
  return rows;
}

std::vector<TokenLogprob> RowReader::logprobs(std::span<const Token> tokens, int32_t n) {
  check_between("logprobs", n, 0, n_vocab_);
  Logprobs logprobs;
  std::vector<TokenLogprob> found;
  const auto n_call = static_cast<size_t>(context_.n_batch());
  for (size_t begin = 0; begin < tokens.size(); begin += n_call) {
    const size_t end = std::min(begin + n_call, tokens.size());
    const std::vector<float> rows =
        read(tokens.subspan(begin, end - begin), static_cast<int32_t>(begin));
    const std::span<const float> all(rows);
    const auto width = static_cast<size_t>(n_vocab_);
    for (size_t i = begin; i < std::min(end, tokens.size() - 1); ++i)
      found.push_back(logprobs(all.subspan((i - begin) * width, width), tokens[i + 1], n));
  }
  return found;
}

// Keeps the first n tokens. A recurrent state cannot be cut, so they are read again.
void RowReader::cut(int32_t n) {
  llama_memory_t memory = llama_get_memory(context_.get());
  if (static_cast<size_t>(n) == text_.size()) return;
  if (llama_memory_seq_rm(memory, 0, n, -1)) {
    text_.resize(static_cast<size_t>(n));
    return;
  }
  std::vector<Token> kept(text_.begin(), text_.begin() + n);
  llama_memory_clear(memory, true);
  text_.clear();
  decode(kept, nullptr);
}

// Appends tokens to the text, and their rows if rows is given.
void RowReader::decode(std::span<const Token> tokens, std::vector<float>* rows) {
  while (!tokens.empty()) {
    const size_t n = std::min(tokens.size(), static_cast<size_t>(context_.n_batch()));
    context_.add(tokens.first(n), static_cast<int32_t>(text_.size()), 0);
    context_.decode();
    text_.insert(text_.end(), tokens.begin(), tokens.begin() + static_cast<int32_t>(n));
    const float* logits = llama_get_logits(context_.get());
    if (rows) rows->insert(rows->end(), logits, logits + n * static_cast<size_t>(n_vocab_));
    tokens = tokens.subspan(n);
  }
}

}  // namespace ersd::llama
