// A walk along the header of a GGUF file: the metadata is skipped, the tensors are read.
#include "ersd/llama/gguf_tensors.h"

#include <gguf.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace ersd::llama {
namespace {

// Reads from front to back. After the end it gives zeros, and is_over() says so.
class Walk {
 public:
  explicit Walk(std::string_view left) : left_(left) {}

  bool is_over() const { return is_over_; }

  template <class Number>
  Number number() {
    Number value{};
    if (const std::string_view bytes = skip(sizeof(value)); bytes.size() == sizeof(value))
      std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  std::string_view text() { return skip(number<uint64_t>()); }
  std::string_view skip(uint64_t n) {
    if (n > left_.size()) {
      is_over_ = true;
      left_ = {};
      return {};
    }
    const std::string_view skipped = left_.substr(0, n);
    left_.remove_prefix(n);
    return skipped;
  }

 private:
  std::string_view left_;
  bool is_over_ = false;
};

uint64_t size_of(gguf_type type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
      return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
      return 2;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
      return 8;
    default:
      return 4;
  }
}

void skip_value(Walk& walk) {
  auto type = static_cast<gguf_type>(walk.number<int32_t>());
  uint64_t n = 1;
  if (type == GGUF_TYPE_ARRAY) {
    type = static_cast<gguf_type>(walk.number<int32_t>());
    n = walk.number<uint64_t>();
  }
  if (type == GGUF_TYPE_STRING) {
    for (; n > 0 && !walk.is_over(); --n) walk.text();
  } else if (n < UINT64_MAX / 8) {
    walk.skip(n * size_of(type));
  }
}

}  // namespace

std::vector<GgufTensor> read_gguf_tensors(const std::string& header) {
  Walk walk(header);
  walk.skip(8);  // the magic and the version
  auto n_tensors = walk.number<int64_t>();
  for (auto n_keys = walk.number<int64_t>(); n_keys > 0 && !walk.is_over(); --n_keys) {
    walk.text();
    skip_value(walk);
  }
  std::vector<GgufTensor> tensors;
  for (; n_tensors > 0 && !walk.is_over(); --n_tensors) {
    GgufTensor tensor{std::string(walk.text())};
    tensor.n_dims = walk.number<uint32_t>();
    if (tensor.n_dims > tensor.size.size()) break;
    for (uint32_t i = 0; i < tensor.n_dims; ++i) tensor.size[i] = walk.number<int64_t>();
    tensor.type = walk.number<int32_t>();
    walk.number<uint64_t>();  // the offset, which gguf.h gives
    tensors.push_back(std::move(tensor));
  }
  return walk.is_over() ? std::vector<GgufTensor>() : tensors;
}

}  // namespace ersd::llama
