// How a context is asked of llama.cpp: types of the cache, attention, and how sequences share it.
#pragma once

#include <llama.h>

#include "ersd/llama/context_options.h"
#include "ersd/llama/model.h"

namespace ersd::llama {

// Whether the cache lies in the memory of the CPU.
bool cache_on_cpu(const Model& model, const ContextOptions& options);

// Whether the calls of a context are to have the attention of ersd/attention/, see OwnOperations.
bool owns_attention(const Model& model, const ContextOptions& options);

// The parameters without the sizes and threads, which the context knows. Throws
// std::invalid_argument for a type that a cache cannot have.
llama_context_params context_params(const Model& model, const ContextOptions& options);

}  // namespace ersd::llama
