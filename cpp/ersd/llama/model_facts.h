// What a model file says beyond what decoding needs.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ersd/llama/model.h"

namespace ersd::llama {

struct ModelFacts {
  uintptr_t address = 0;      // of llama.cpp's model, for code that calls llama.cpp itself
  int32_t n_embd = 0;         // numbers in a hidden state
  Token nl = -1;              // the token of a line break; -1 if there is none
  bool is_recurrent = false;  // whether the model keeps one state instead of a cache
  bool is_hybrid = false;     // whether some layers keep a state, and others have a cache
  std::vector<std::pair<std::string, std::string>> metadata;  // all that are not arrays, as text
};

ModelFacts model_facts(const Model& model);

}  // namespace ersd::llama
