// The logits processors of one generation: bias, and llama.cpp's penalties and DRY. The grammar
// comes after them.
#pragma once

#include "ersd/decode/options.h"
#include "ersd/llama/model.h"

namespace ersd::llama {

// n_prompt is the number of tokens before the answer. A penalty window of -1 is n_ctx tokens. The
// model must outlive the processors. Throws std::invalid_argument if a biased token is not in the
// vocabulary.
LogitsProcessorList make_logits_processors(const Model& model,
                                           const LogitsProcessorOptions& options, size_t n_prompt,
                                           int32_t n_ctx);

}  // namespace ersd::llama
