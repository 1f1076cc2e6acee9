// The options of models and contexts, read from keyword arguments by their names.
#pragma once

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "ersd/llama/context_options.h"
#include "ersd/llama/model.h"
#include "keywords.h"

inline void read_model_options(Keywords& keywords, ersd::llama::ModelOptions& o) {
  keywords.read("n_gpu_layers", o.n_gpu_layers);
  keywords.read("main_gpu", o.main_gpu);
  keywords.read("split_mode", o.split_mode);
  keywords.read("tensor_split", o.tensor_split);
  keywords.read("use_mmap", o.use_mmap);
  keywords.read("use_mlock", o.use_mlock);
  keywords.read("rpc_servers", o.rpc_servers);
  keywords.read("lora_path", o.lora_path);
  keywords.read("lora_scale", o.lora_scale);
  keywords.read("kv_overrides", o.kv_overrides);
}

inline void read_context_options(Keywords& keywords, ersd::llama::ContextOptions& o) {
  keywords.read("n_ctx", o.n_ctx);
  keywords.read("n_batch", o.n_batch);
  keywords.read("n_threads", o.n_threads);
  keywords.read("flash_attn", o.flash_attn);
  keywords.read("offload_kqv", o.offload_kqv);
  keywords.read("op_offload", o.op_offload);
  keywords.read("type_k", o.type_k);
  keywords.read("type_v", o.type_v);
  keywords.read("rope_scaling_type", o.rope.scaling_type);
  keywords.read("rope_freq_base", o.rope.freq_base);
  keywords.read("rope_freq_scale", o.rope.freq_scale);
  keywords.read("yarn_ext_factor", o.rope.yarn_ext_factor);
  keywords.read("yarn_attn_factor", o.rope.yarn_attn_factor);
  keywords.read("yarn_beta_fast", o.rope.yarn_beta_fast);
  keywords.read("yarn_beta_slow", o.rope.yarn_beta_slow);
  keywords.read("yarn_orig_ctx", o.rope.yarn_orig_ctx);
}
