// Whether a model's logits depend on the width of its calls, that is on how many tokens they have.
#pragma once

#include <cstdint>

#include "ersd/model/language_model.h"

namespace ersd {

// Decodes a few tokens one by one, then several at a time, once on a nearly empty cache and once on
// one that holds about n_long tokens, and compares the logits bit by bit. Returns the first width
// whose logits differ from those of single calls, or 0 if none does. Leaves the cache empty.
int32_t find_width_that_differs(LanguageModel& model, int32_t n_long);

}  // namespace ersd
