// Options of sampling: temperature and truncation.
#pragma once

#include <cstdint>

namespace ersd {

// The names, the meaning and the order are llama.cpp's: top-k, typical-p, top-p, min-p and XTC act
// on the logits, and the temperature acts after them. decode/option_table.h describes each option.
struct SamplingOptions {
  float temperature = 0.8f;
  int32_t top_k = 40;
  float top_p = 0.95f;
  float min_p = 0.05f;
  float typical_p = 1;
  float xtc_probability = 0;
  float xtc_threshold = 0.1f;

  // Whether typical-p or XTC acts. They keep tokens that no single cutoff describes, so they need a
  // Selection. No two tokens can have a probability above 0.5, so a higher threshold turns XTC off.
  bool selects() const {
    return temperature > 0 && (typical_p < 1 || (xtc_probability > 0 && xtc_threshold <= 0.5f));
  }
  bool truncates() const {
    return temperature > 0 && (top_k > 0 || top_p < 1 || min_p > 0 || selects());
  }
  SamplingOptions without_truncation() const {
    return {.temperature = temperature, .top_k = 0, .top_p = 1, .min_p = 0};
  }
};

}  // namespace ersd
