// What a context is asked for.
#pragma once

#include <cstdint>
#include <string>

#include "ersd/tree/draft_tree.h"

namespace ersd::llama {

// How positions are encoded. The defaults leave it to the model.
struct RopeOptions {
  int32_t scaling_type = -1;  // 0: none, 1: linear, 2: YaRN, 3: LongRoPE
  float freq_base = 0, freq_scale = 0;
  float yarn_ext_factor = -1, yarn_attn_factor = -1, yarn_beta_fast = -1, yarn_beta_slow = -1;
  int32_t yarn_orig_ctx = 0;
};

// The names are those of llama.cpp, except n_sequences, n_ctx_total, exact, own_attention,
// ordered_cells, max_nodes, whole_trees and lean_window.
struct ContextOptions {
  int32_t n_ctx = 4096;     // positions of one sequence
  int32_t n_batch = 512;    // tokens per call while a prompt is read
  int32_t n_threads = 0;    // 0: default_n_threads()
  int32_t flash_attn = -1;  // -1: llama.cpp decides, 0: off, 1: on
  // Types of the cache: "f16", "bf16", "f32", "q8_0", ... Empty means the types that `exact` asks
  // for, see context_params.cpp.
  std::string type_k, type_v;
  bool offload_kqv = true;
  bool op_offload = true;
  RopeOptions rope;
  // Whether a token's logits must not depend on what else is in its batch, as far as the types of
  // the cache decide that.
  bool exact = false;
  // Whether attention on a CPU should be ersd's own where it can be; always if exact. It is faster
  // than llama.cpp's for several tokens, but rounds in another way.
  bool own_attention = false;
  // Whether accepted tokens stay in the order of cells that plain decoding would give them, see
  // Context::order_cells(). A draft model does not need this.
  bool ordered_cells = true;
  int32_t max_nodes = kMaxDraftNodes;  // drafted nodes of a call at most; 0: plain decoding alone
  // Whether each tree is decoded in one call, as targets do. Drafts decode level by level.
  bool whole_trees = true;
  // Whether layers with a sliding window may keep little more than the window, where that halves
  // their memory. Trees are chains then.
  bool lean_window = false;
  int32_t n_sequences = 1;  // places
  int32_t n_ctx_total = 0;  // tokens that all places hold together; 0: n_ctx. Trees have extra room
};

}  // namespace ersd::llama
