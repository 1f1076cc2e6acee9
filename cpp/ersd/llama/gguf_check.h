// Checks of GGUF files before llama.cpp loads them, because llama.cpp aborts the process on some
// values that a damaged file may have.
#pragma once

#include <stdexcept>
#include <string>

namespace ersd::llama {

struct FileNotFound : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class GgufKind { kModel, kAdapter };

// Reads the header of a file, and those of its other parts if it is the first of several. Checks
// that all tensors are inside the file, that their shapes and types can be computed with, and that
// sizes and factors are in the ranges that llama.cpp takes for granted. What llama.cpp refuses by
// an error of its own, such as a missing tensor or a wrong shape, is left to it.
//
// Throws FileNotFound if there is no such file, std::runtime_error if it cannot be opened, and
// std::invalid_argument if it is no GGUF file, is truncated or has a value out of its range.
void check_gguf(const std::string& path, GgufKind kind);

}  // namespace ersd::llama
