// From the file's name to its metadata and tensors.
#include "ersd/llama/gguf_check.h"

#include <ggml.h>
#include <gguf.h>
#include <llama.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <memory>

#include "ersd/llama/gguf_metadata.h"
#include "ersd/llama/gguf_tensors.h"

namespace ersd::llama {
namespace {

namespace fs = std::filesystem;

constexpr size_t kAlignment = 32;  // of tensors in memory, which a mapped file must have, too

struct Free {
  void operator()(gguf_context* header) const { gguf_free(header); }
};
using Header = std::unique_ptr<gguf_context, Free>;

void check_readable(const std::string& path) {
  if (!fs::exists(path)) throw FileNotFound("no such model file: '" + path + "'");
  if (fs::is_directory(path))
    throw std::invalid_argument("'" + path + "' is a directory, expected a GGUF file");
  if (!fs::is_regular_file(path))
    throw std::invalid_argument("'" + path + "' is not a regular file, expected a GGUF file");
  std::array<char, 4> magic{};
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("'" + path + "' cannot be opened for reading");
  file.read(magic.data(), magic.size());
  if (std::string_view(magic.data(), 4) != "GGUF")
    throw std::invalid_argument("'" + path + "' is not a GGUF file: it does not begin with 'GGUF'");
}

// The types that llama.cpp multiplies activations with.
bool is_weight(ggml_type type) {
  if (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return true;
  return ggml_is_quantized(type) && type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K;
}

void check_tensor(const GgufTensor& tensor, const GgufMetadata& metadata, GgufKind kind) {
  const std::string& name = tensor.name;
  if (tensor.n_dims == 0) metadata.refuse("tensor '" + name + "' has no dimensions");
  for (const int64_t size : tensor.size)
    if (size < 1) metadata.refuse("tensor '" + name + "' has no elements");
  if (kind == GgufKind::kAdapter) return;
  if (!name.ends_with(".weight") && !name.ends_with(".bias")) return;
  const auto type = static_cast<ggml_type>(tensor.type);
  const std::string type_name = ggml_type_name(type);
  const bool is_vector = std::all_of(tensor.size.begin() + 1, tensor.size.end(),
                                     [](int64_t size) { return size == 1; });
  if (is_vector && type != GGML_TYPE_F32)
    metadata.refuse("vector '" + name + "' must be of type f32, got " + type_name);
  if (!is_weight(type) && !name.ends_with("tid2eid.weight"))
    metadata.refuse("tensor '" + name + "' has the type " + type_name +
                    ", which is none of weights");
}

void check_tensors(const gguf_context& header, const GgufMetadata& metadata,
                   const std::string& path, GgufKind kind) {
  const uint64_t begin = gguf_get_data_offset(&header);
  const int64_t n = gguf_get_n_tensors(&header);
  uint64_t needed = begin;
  for (int64_t i = 0; i < n; ++i)
    needed = std::max<uint64_t>(
        needed, begin + gguf_get_tensor_offset(&header, i) + gguf_get_tensor_size(&header, i));
  if (const uint64_t size = fs::file_size(path); size < needed)
    throw std::invalid_argument("'" + path + "' is truncated: its tensors end at byte " +
                                std::to_string(needed) + ", the file at " + std::to_string(size));
  if (gguf_get_alignment(&header) % kAlignment != 0)
    metadata.refuse("general.alignment must be a multiple of " + std::to_string(kAlignment) +
                    ", got " + std::to_string(gguf_get_alignment(&header)));
  std::string bytes(begin, '\0');
  std::ifstream(path, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(begin));
  const std::vector<GgufTensor> tensors = read_gguf_tensors(bytes);
  if (tensors.size() != static_cast<size_t>(n))
    metadata.refuse("it has " + std::to_string(tensors.size()) + " of " + std::to_string(n) +
                    " descriptions of tensors");
  for (const GgufTensor& tensor : tensors) check_tensor(tensor, metadata, kind);
}

// Checks one file and returns its header.
Header check_one(const std::string& path, GgufKind kind) {
  check_readable(path);
  Header header(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}));
  if (!header)
    throw std::invalid_argument("'" + path +
                                "' is a truncated or damaged GGUF file: its header cannot be read");
  check_tensors(*header, GgufMetadata(*header, path), path, kind);
  return header;
}

// Checks the other files of a model in several ones. llama.cpp says which of them are missing.
void check_others(const std::string& path, const gguf_context& header) {
  const int64_t count_id = gguf_find_key(&header, "split.count");
  if (count_id < 0 || gguf_get_kv_type(&header, count_id) != GGUF_TYPE_UINT16) return;
  const int n = gguf_get_val_u16(&header, count_id);
  std::string prefix(path.size() + 1, '\0');
  if (llama_split_prefix(prefix.data(), prefix.size(), path.c_str(), 0, n) == 0) return;
  std::string other(path.size() + 32, '\0');
  for (int i = 1; i < n; ++i) {
    const int length = llama_split_path(other.data(), other.size(), prefix.c_str(), i, n);
    const std::string name = other.substr(0, static_cast<size_t>(length));
    if (!fs::exists(name)) return;
    const Header part = check_one(name, GgufKind::kModel);
    const int64_t number_id = gguf_find_key(part.get(), "split.no");
    if (number_id >= 0 && gguf_get_kv_type(part.get(), number_id) != GGUF_TYPE_UINT16)
      GgufMetadata(*part, name).refuse("split.no must be of type u16");
  }
}

}  // namespace

void check_gguf(const std::string& path, GgufKind kind) {
  const Header header = check_one(path, kind);
  const GgufMetadata metadata(*header, path);
  if (kind == GgufKind::kAdapter) return metadata.check_adapter();
  metadata.check_model();
  check_others(path, *header);
}

}  // namespace ersd::llama
