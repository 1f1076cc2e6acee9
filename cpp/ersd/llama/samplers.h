// What shapes logits in llama.cpp: bias, penalties, DRY and grammar, as one generation asks for
// them.
#pragma once

#include "ersd/decode/options.h"
#include "ersd/llama/model.h"

namespace ersd::llama {

// n_prompt: tokens before the answer; n_ctx: what a window of -1 is. The model must outlive the
// processors. Throws std::invalid_argument for a bias of a token that is not in the vocabulary, or
// a grammar that llama.cpp cannot read.
LogitsProcessorList make_logits_processors(const Model& model,
                                           const LogitsProcessorOptions& options, size_t n_prompt,
                                           int32_t n_ctx);

}  // namespace ersd::llama
