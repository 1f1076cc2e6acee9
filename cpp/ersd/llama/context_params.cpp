// The choice of cache types and attention.
#include "ersd/llama/context_params.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "ersd/attention/attention.h"
#include "ersd/llama/own_operations.h"

namespace ersd::llama {
namespace {

ggml_type cache_type(const char* option, std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const ggml_type type :
       {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
        GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1})
    if (name == ggml_type_name(type)) return type;
  throw std::invalid_argument(
      std::string(option) +
      " must be one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1, got '" + name + "'");
}

// The size of an attention head's keys or values, which a file need not say.
int32_t head_size(const Model& model, const char* of) {
  const std::string key = model.architecture() + ".attention." + of + "_length";
  const int32_t given = std::atoi(model.metadata(key).c_str());
  const int32_t n_heads = std::max(1, llama_model_n_head(model.get()));
  return given > 0 ? given : llama_model_n_embd(model.get()) / n_heads;
}

// Whether ours can compute a model's attention over a cache in f16. Who asks for flash attention,
// or for none, wants llama.cpp's.
bool can_own_attention(const Model& model, const ContextOptions& options) {
  return options.flash_attn < 0 && has_own_attention() &&
         attention::supports(head_size(model, "key"), head_size(model, "value"));
}

// Types of keys and values. llama.cpp's CPU attention over keys and values of one floating-point
// type takes different code paths for 1 row, for 2 to 63 and for more, which differ in the last
// bits. Where ours cannot take its place, exactness needs two types, over which llama.cpp takes one
// path for all. Of the pairs that do, q8_0 keys and f16 values are the fastest after long texts; a
// block of q8_0 has 32 numbers of one head.
std::pair<ggml_type, ggml_type> cache_types(const Model& model, const ContextOptions& options) {
  ggml_type k = GGML_TYPE_F16, v = GGML_TYPE_F16;
  if (options.exact && cache_on_cpu(model, options) && !can_own_attention(model, options))
    k = head_size(model, "key") % 32 == 0 ? GGML_TYPE_Q8_0 : GGML_TYPE_BF16;
  if (!options.type_k.empty()) k = cache_type("type_k", options.type_k);
  if (!options.type_v.empty()) v = cache_type("type_v", options.type_v);
  return {k, v};
}

// Exact attention, our own and quantised values need flash attention. Otherwise llama-cpp-python's
// default is kept, which is off, so that texts are the same as there.
llama_flash_attn_type flash_attention(const Model& model, const ContextOptions& options,
                                      ggml_type v) {
  if (options.flash_attn >= 0) return static_cast<llama_flash_attn_type>(options.flash_attn);
  if (!cache_on_cpu(model, options)) return LLAMA_FLASH_ATTN_TYPE_AUTO;
  const bool needs_flash = options.exact || owns_attention(model, options) || ggml_is_quantized(v);
  return needs_flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
}

}  // namespace

bool cache_on_cpu(const Model& model, const ContextOptions& options) {
  return !model.on_gpu() || !options.offload_kqv;
}

bool owns_attention(const Model& model, const ContextOptions& options) {
  return (options.exact || options.own_attention) && cache_on_cpu(model, options) &&
         can_own_attention(model, options) &&
         cache_types(model, options) == std::pair(GGML_TYPE_F16, GGML_TYPE_F16);
}

llama_context_params context_params(const Model& model, const ContextOptions& options) {
  llama_context_params params = llama_context_default_params();
  std::tie(params.type_k, params.type_v) = cache_types(model, options);
  params.flash_attn_type = flash_attention(model, options, params.type_v);
  params.kv_unified = true;  // the sequences of a tree share cells
  params.offload_kqv = options.offload_kqv;
  params.op_offload = options.op_offload;
  params.rope_scaling_type = static_cast<llama_rope_scaling_type>(options.rope.scaling_type);
  params.rope_freq_base = options.rope.freq_base;
  params.rope_freq_scale = options.rope.freq_scale;
  params.yarn_ext_factor = options.rope.yarn_ext_factor;
  params.yarn_attn_factor = options.rope.yarn_attn_factor;
  params.yarn_beta_fast = options.rope.yarn_beta_fast;
  params.yarn_beta_slow = options.rope.yarn_beta_slow;
  params.yarn_orig_ctx = static_cast<uint32_t>(options.rope.yarn_orig_ctx);
  params.no_perf = true;
  return params;
}

}  // namespace ersd::llama
