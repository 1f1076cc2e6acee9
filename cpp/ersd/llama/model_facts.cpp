// Reads a model's properties from llama.cpp.
#include "ersd/llama/model_facts.h"

#include <llama.h>

namespace ersd::llama {
namespace {

// The text that a function of llama.cpp writes into a buffer.
template <class Write>
std::string written(Write write) {
  std::string text(256, '\0');
  int32_t n = write(text.data(), text.size());
  if (n >= static_cast<int32_t>(text.size())) {
    text.resize(static_cast<size_t>(n) + 1);
    n = write(text.data(), text.size());
  }
  text.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return text;
}

}  // namespace

ModelFacts model_facts(const Model& model) {
  const llama_model* m = model.get();
  ModelFacts facts{reinterpret_cast<uintptr_t>(m), llama_model_n_embd(m),
                   llama_vocab_nl(model.vocab()),  llama_model_is_recurrent(m),
                   llama_model_is_hybrid(m),       {}};
  for (int32_t i = 0; i < llama_model_meta_count(m); ++i)
    facts.metadata.emplace_back(written([&](char* buffer, size_t size) {
                                  return llama_model_meta_key_by_index(m, i, buffer, size);
                                }),
                                written([&](char* buffer, size_t size) {
                                  return llama_model_meta_val_str_by_index(m, i, buffer, size);
                                }));
  return facts;
}

}  // namespace ersd::llama
