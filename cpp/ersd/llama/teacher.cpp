// Many independent sequences in one call of llama_decode.
#include "ersd/llama/teacher.h"

#include <llama.h>

#include <algorithm>
#include <string>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/cores.h"
#include "ersd/llama/own_operations.h"

namespace ersd::llama {
namespace {

constexpr int32_t kMaxTexts = 255;    // one less than llama.cpp's limit of sequences
constexpr int32_t kMinBatch = 32;     // the smallest n_batch of the context
constexpr int32_t kMaxCtx = 1 << 20;  // sanity limits of the options
constexpr int32_t kMaxThreads = 1 << 16;

}  // namespace

Teacher::~Teacher() = default;

Teacher::Teacher(const Model& model, const TeacherOptions& options)
    : n_vocab_(model.n_vocab()), n_embd_(llama_model_n_embd(model.get())), n_ctx_(options.n_ctx) {
  check_between("n_texts", options.n_texts, 1, kMaxTexts);
  check_between("n_ctx", options.n_ctx, 1, kMaxCtx);
  check_between("n_threads", options.n_threads, 0, kMaxThreads);
  if (!model.can_branch())
    throw std::invalid_argument("'" + model.path() +
                                "' keeps one state and cannot hold several texts");
  lengths_.assign(static_cast<size_t>(options.n_texts), 0);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(options.n_texts) * static_cast<uint32_t>(options.n_ctx);
  params.n_batch = params.n_ubatch = static_cast<uint32_t>(std::max(options.n_texts, kMinBatch));
  params.n_seq_max = static_cast<uint32_t>(options.n_texts);
  params.n_threads = params.n_threads_batch =
      options.n_threads > 0 ? options.n_threads : default_n_threads();
  params.embeddings = true;  // hidden states in addition to the logits
  params.pooling_type = LLAMA_POOLING_TYPE_NONE;
  params.no_perf = true;
  context_ = make_context(model, params);
}

void Teacher::decode(std::span<const int32_t> texts, std::span<const Token> tokens) {
  if (texts.size() != tokens.size())
    throw std::invalid_argument("texts and tokens must be equally many");
  check_between("the number of tokens", static_cast<int32_t>(tokens.size()), 1,
                static_cast<int32_t>(llama_n_batch(context_.get())));
  llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
  const std::unique_ptr<llama_batch, void (*)(llama_batch*)> freed(
      &batch, [](llama_batch* b) { llama_batch_free(*b); });
  positions_.clear();
  std::vector<int32_t> lengths = lengths_;
  for (size_t i = 0; i < tokens.size(); ++i) {
    check_between("a text", texts[i], 0, n_texts() - 1);
    check_between("a token", tokens[i], 0, n_vocab_ - 1);
    int32_t& length = lengths[static_cast<size_t>(texts[i])];
    if (length == n_ctx_)
      throw std::invalid_argument("text " + std::to_string(texts[i]) + " is full: it has " +
                                  std::to_string(n_ctx_) + " tokens");
    positions_.push_back(length);
    batch.token[i] = tokens[i];
    batch.pos[i] = length++;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = texts[i];
    batch.logits[i] = 1;
  }
  batch.n_tokens = static_cast<int32_t>(tokens.size());
  clear_error();
  const OwnOperations own(false);
  const int32_t status = llama_decode(context_.get(), batch);
  if (status != 0)
    throw std::runtime_error("llama_decode failed with status " + std::to_string(status) + " on " +
                             std::to_string(tokens.size()) + " texts" + error_suffix());
  lengths_ = std::move(lengths);
}

std::span<const float> Teacher::logits(int32_t row) const {
  check_between("a row", row, 0, n_rows() - 1);
  return {llama_get_logits_ith(context_.get(), row), static_cast<size_t>(n_vocab_)};
}

std::span<const float> Teacher::state(int32_t row) const {
  check_between("a row", row, 0, n_rows() - 1);
  return {llama_get_embeddings_ith(context_.get(), row), static_cast<size_t>(n_embd_)};
}

void Teacher::clear(int32_t text) {
  check_between("a text", text, 0, n_texts() - 1);
  llama_memory_seq_rm(llama_get_memory(context_.get()), text, -1, -1);
  lengths_[static_cast<size_t>(text)] = 0;
}

void Teacher::copy(int32_t from, int32_t to) {
  check_between("a text", from, 0, n_texts() - 1);
  if (from == to) return;
  clear(to);
  llama_memory_seq_cp(llama_get_memory(context_.get()), from, to, -1, -1);
  lengths_[static_cast<size_t>(to)] = lengths_[static_cast<size_t>(from)];
}

}  // namespace ersd::llama
