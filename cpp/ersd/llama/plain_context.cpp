// Calls of llama.cpp in which every row has an output.
#include "ersd/llama/plain_context.h"

#include <llama.h>

#include <stdexcept>
#include <string>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/own_operations.h"

namespace ersd::llama {

int32_t PlainContext::n_batch() const {
  return static_cast<int32_t>(llama_n_batch(context_.get()));
}

PlainContext::PlainContext(const Model& model, const llama_context_params& params)
    : context_(make_context(model, params)), n_vocab_(model.n_vocab()) {
  llama_adapter_lora* adapter = model.lora();
  float scale = model.lora_scale();
  if (adapter && llama_set_adapters_lora(context_.get(), &adapter, 1, &scale) != 0)
    throw std::runtime_error("llama.cpp could not apply the LoRA adapter to '" + model.path() +
                             "'");
}

void PlainContext::add(std::span<const Token> tokens, int32_t position, int32_t sequence) {
  for (const Token token : tokens) check_between("a token", token, 0, n_vocab_ - 1);
  for (const Token token : tokens) {
    tokens_.push_back(token);
    positions_.push_back(position++);
    sequences_.push_back(sequence);
  }
}

int32_t PlainContext::decode() {
  const size_t n = tokens_.size();
  std::vector<int32_t> one(n, 1);  // each row is of one sequence
  std::vector<int8_t> outputs(n, 1);
  std::vector<int32_t*> sequences;
  for (int32_t& sequence : sequences_) sequences.push_back(&sequence);
  const llama_batch batch{static_cast<int32_t>(n), tokens_.data(), nullptr,
                          positions_.data(),       one.data(),     sequences.data(),
                          outputs.data()};
  clear_error();
  const OwnOperations own(false);
  const int32_t status = llama_decode(context_.get(), batch);
  llama_synchronize(context_.get());
  tokens_.clear();
  positions_.clear();
  sequences_.clear();
  if (status != 0)
    throw std::runtime_error("llama_decode failed with status " + std::to_string(status) + " on " +
                             std::to_string(n) + " tokens" + error_suffix());
  return batch.n_tokens;
}

}  // namespace ersd::llama
