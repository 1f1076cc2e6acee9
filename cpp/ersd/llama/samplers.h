// llama.cpp's logits processors for the options of one generation: bias, penalties, DRY and
// grammar.
#pragma once

#include "ersd/decode/options.h"
#include "ersd/llama/model.h"

namespace ersd::llama {

// n_prompt is the number of tokens before the answer. A penalty window of -1 is n_ctx tokens. The
// model must outlive the processors. Throws std::invalid_argument if a biased token is not in the
// vocabulary, or if llama.cpp cannot read the grammar.
LogitsProcessorList make_logits_processors(const Model& model,
                                           const LogitsProcessorOptions& options, size_t n_prompt,
                                           int32_t n_ctx);

}  // namespace ersd::llama
