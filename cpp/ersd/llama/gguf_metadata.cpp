// Ranges of a model's metadata. They are those that llama.cpp asserts or divides by.
#include "ersd/llama/gguf_metadata.h"

#include <gguf.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <unordered_set>
#include <utility>

#include "ersd/check.h"

namespace ersd::llama {
namespace {

constexpr double kMaxInt = std::numeric_limits<int32_t>::max();
constexpr double kMaxFloat = std::numeric_limits<float>::max();

struct Range {
  const char* suffix;  // of the key, after the architecture
  double least, most;
};

// Any other integer is at most kMaxInt, and any other float is finite.
constexpr std::array kRanges{
    Range{"block_count", 1, 512},
    Range{"context_length", 1, kMaxInt},
    Range{"embedding_length", 1, 1 << 24},
    Range{"expert_count", 0, 1024},
    Range{"attention.head_count", 0, 1 << 16},
    Range{"attention.head_count_kv", 0, 1 << 16},
    Range{"attention.key_length", 1, 1 << 16},
    Range{"attention.value_length", 1, 1 << 16},
    Range{"attention.layer_norm_epsilon", 0, kMaxFloat},
    Range{"attention.layer_norm_rms_epsilon", 0, kMaxFloat},
    Range{"attention.group_norm_epsilon", 0, kMaxFloat},
    Range{"attention.max_alibi_bias", 0, kMaxFloat},
    Range{"rope.freq_base", 0, kMaxFloat},
    Range{"rope.scaling.factor", 0, kMaxFloat},
    Range{"pooling_type", -1, 4},
    Range{"ssm.conv_kernel", 1, 1 << 16},
    Range{"ssm.inner_size", 1, kMaxInt},
    Range{"ssm.state_size", 1, kMaxInt},
    Range{"ssm.time_step_rank", 1, kMaxInt},
    Range{"leading_dense_block_count", 0, 512},
};

template <class T>
void append(const void* data, size_t n, std::vector<double>& out) {
  const auto* values = static_cast<const T*>(data);
  for (size_t i = 0; i < n; ++i) out.push_back(static_cast<double>(values[i]));
}

// Appends n values of a type of number; nothing for other types.
void append(gguf_type type, const void* data, size_t n, std::vector<double>& out) {
  switch (type) {
    case GGUF_TYPE_UINT8:
      return append<uint8_t>(data, n, out);
    case GGUF_TYPE_INT8:
      return append<int8_t>(data, n, out);
    case GGUF_TYPE_UINT16:
      return append<uint16_t>(data, n, out);
    case GGUF_TYPE_INT16:
      return append<int16_t>(data, n, out);
    case GGUF_TYPE_UINT32:
      return append<uint32_t>(data, n, out);
    case GGUF_TYPE_INT32:
      return append<int32_t>(data, n, out);
    case GGUF_TYPE_UINT64:
      return append<uint64_t>(data, n, out);
    case GGUF_TYPE_INT64:
      return append<int64_t>(data, n, out);
    case GGUF_TYPE_FLOAT32:
      return append<float>(data, n, out);
    case GGUF_TYPE_FLOAT64:
      return append<double>(data, n, out);
    default:
      return;
  }
}

double largest(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::ranges::max_element(values);
}

}  // namespace

GgufMetadata::GgufMetadata(const gguf_context& header, std::string name)
    : header_(header), name_(std::move(name)), architecture_(text("general.architecture")) {}

void GgufMetadata::refuse(const std::string& fault) const {
  throw std::invalid_argument("'" + name_ + "' is a damaged GGUF file: " + fault);
}

bool GgufMetadata::has(const std::string& key) const {
  return gguf_find_key(&header_, key.c_str()) >= 0;
}

std::vector<double> GgufMetadata::numbers(const std::string& key) const {
  std::vector<double> found;
  const int64_t id = gguf_find_key(&header_, key.c_str());
  if (id < 0) return found;
  const gguf_type type = gguf_get_kv_type(&header_, id);
  if (type == GGUF_TYPE_STRING) return found;
  if (type != GGUF_TYPE_ARRAY) {
    append(type, gguf_get_val_data(&header_, id), 1, found);
  } else if (const gguf_type each = gguf_get_arr_type(&header_, id); each != GGUF_TYPE_STRING) {
    append(each, gguf_get_arr_data(&header_, id), gguf_get_arr_n(&header_, id), found);
  }
  return found;
}

std::optional<double> GgufMetadata::number(const std::string& key) const {
  const std::vector<double> found = numbers(key);
  return found.empty() ? std::nullopt : std::optional(found.front());
}

std::string_view GgufMetadata::text(const std::string& key) const {
  const int64_t id = gguf_find_key(&header_, key.c_str());
  if (id < 0 || gguf_get_kv_type(&header_, id) != GGUF_TYPE_STRING) return {};
  return gguf_get_val_str(&header_, id);
}

void GgufMetadata::check_model() const {
  check_ranges();
  check_experts();
  check_heads();
  check_vocabulary();
}

void GgufMetadata::check_adapter() const {
  const auto needs = [&](const char* key, gguf_type type) {
    const int64_t id = gguf_find_key(&header_, key);
    if (id >= 0 && gguf_get_kv_type(&header_, id) != type)
      refuse(std::string(key) + " must be of type " + gguf_type_name(type));
  };
  needs("general.type", GGUF_TYPE_STRING);
  needs("general.architecture", GGUF_TYPE_STRING);
  needs("adapter.type", GGUF_TYPE_STRING);
  needs("adapter.lora.alpha", GGUF_TYPE_FLOAT32);
  if (!std::isfinite(number("adapter.lora.alpha").value_or(0)))
    refuse("adapter.lora.alpha must be finite");
}

void GgufMetadata::check_ranges() const {
  const std::string prefix = architecture_ + ".";
  for (int64_t id = 0; id < gguf_get_n_kv(&header_); ++id) {
    const std::string name = gguf_get_key(&header_, id);
    if (!name.starts_with(prefix)) continue;
    Range range{nullptr, -kMaxFloat, kMaxFloat};
    const gguf_type type = gguf_get_kv_type(&header_, id);
    if (type == GGUF_TYPE_UINT32) range.most = kMaxInt;
    for (const Range& each : kRanges)
      if (name.substr(prefix.size()) == each.suffix) range = each;
    for (const double value : numbers(name))
      if (!(value >= range.least && value <= range.most))
        refuse(name + " must be between " + shown(range.least) + " and " + shown(range.most) +
               ", got " + shown(value));
  }
  const std::string_view scaling = text(key("rope.scaling.type"));
  constexpr std::array<std::string_view, 4> kScalings{"none", "linear", "yarn", "longrope"};
  if (has(key("rope.scaling.type")) && std::ranges::find(kScalings, scaling) == kScalings.end())
    refuse(key("rope.scaling.type") + " is unknown: '" + std::string(scaling.substr(0, 80)) + "'");
  const double layers = number(key("block_count")).value_or(1);
  if (number(key("nextn_predict_layers")).value_or(0) > layers)
    refuse(key("nextn_predict_layers") + " is more than " + key("block_count"));
}

// As llama_model_base::load_hparams() asserts.
void GgufMetadata::check_experts() const {
  const double n = number(key("expert_count")).value_or(0);
  const double used = largest(numbers(key("expert_used_count")));
  const double groups = number(key("expert_group_count")).value_or(0);
  const double used_groups = number(key("expert_group_used_count")).value_or(0);
  if (architecture_.starts_with("hunyuan") && n <= 1) return;
  if (used > n || (n > 0 && used < 1))
    refuse(key("expert_used_count") + " must be between 1 and " + shown(n) + ", got " +
           shown(used));
  if (groups > 0 && groups >= n)
    refuse(key("expert_group_count") + " must be less than " + shown(n) + ", got " + shown(groups));
  if (groups <= 1) return;
  if (std::fmod(n, groups) != 0 || used_groups < 1 || used_groups >= groups)
    refuse("its " + shown(n) + " experts cannot be in " + shown(groups) + " groups, of which " +
           shown(used_groups) + " are used");
}

void GgufMetadata::check_heads() const {
  const std::vector<double> heads = numbers(key("attention.head_count"));
  const std::vector<double> shared = numbers(key("attention.head_count_kv"));
  for (size_t i = 0; i < std::max(heads.size(), shared.size()); ++i) {
    if (heads.empty() || shared.empty()) break;
    const double n = heads[std::min(i, heads.size() - 1)];
    const double n_kv = shared[std::min(i, shared.size() - 1)];
    if (n > 0 && n_kv > 0 && std::fmod(n, n_kv) != 0)
      refuse(key("attention.head_count") + " must be a multiple of " +
             key("attention.head_count_kv") + ", got " + shown(n) + " and " + shown(n_kv));
  }
  if (heads.empty() || heads.front() == 0) return;
  const double width = number(key("embedding_length")).value_or(0);
  const double size =
      number(key("attention.key_length")).value_or(std::floor(width / heads.front()));
  const double rotated = number(key("rope.dimension_count")).value_or(0);
  if (size < 1)
    refuse(key("attention.head_count") + " must be at most " + shown(width) + ", got " +
           shown(heads.front()));
  if (std::fmod(rotated, 2) != 0 || rotated > size || rotated < 0)
    refuse(key("rope.dimension_count") + " must be even and at most " + shown(size) + ", got " +
           shown(rotated));
}

void GgufMetadata::check_vocabulary() const {
  const int64_t id = gguf_find_key(&header_, "tokenizer.ggml.tokens");
  if (id < 0) return;  // llama.cpp says so
  if (gguf_get_kv_type(&header_, id) != GGUF_TYPE_ARRAY) return;
  if (gguf_get_arr_type(&header_, id) != GGUF_TYPE_STRING) return;
  check_tokens(id);
}

void GgufMetadata::check_tokens(int64_t id) const {
  const size_t n = gguf_get_arr_n(&header_, id);
  std::unordered_set<std::string_view> known;
  known.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    const std::string_view token = gguf_get_arr_str(&header_, id, i);
    // llama.cpp gives empty tokens names of their own.
    if (!token.empty() && !known.insert(token).second)
      refuse("token " + std::to_string(i) + " of its vocabulary is there twice");
  }
}

}  // namespace ersd::llama
