// The descriptions of a GGUF file's tensors as they stand in the file. gguf.h gives no shapes
// unless it makes tensors of them, and it aborts the process on a tensor without dimensions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace ersd::llama {

struct GgufTensor {
  std::string name;
  uint32_t n_dims = 0;
  std::array<int64_t, 4> size{1, 1, 1, 1};
  int32_t type = 0;  // a ggml_type
};

// header: the file's bytes up to its data. gguf_init_from_file() must have accepted them.
// Returns no tensor if the bytes end too early, and stops at a tensor of more than 4 dimensions.
std::vector<GgufTensor> read_gguf_tensors(const std::string& header);

}  // namespace ersd::llama
