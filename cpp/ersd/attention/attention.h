// Attention over a cache in half precision whose result for a token has the same bits in every
// call: whatever other tokens the call holds, whichever cells the cache keeps between those that
// the token sees, and however many threads there are.
//
// For each token and head, out = sum over cells of softmax(scale q k + bias)_cell v_cell. Each
// score is one chain of fused multiplications and additions over the numbers of a head, and each
// number of the result is one over the cells in their order, so nothing depends on how the loops
// are cut. A cell that a token does not see adds 0 times a number. The greatest score does not
// depend on the order, and the sum of the weights is one of whole numbers, so it does not either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ersd/attention/variants.h"
#include "ersd/operation.h"

namespace ersd::attention {

// The variants that this processor supports, from the slowest to the fastest. There may be none.
std::span<const Variant* const> supported_variants();

// Where numbers lie: bytes from one to the next of each kind.
struct Strides {
  size_t row = 0;  // tokens of queries and masks, cells of keys and values
  size_t head = 0;
  size_t stream = 0;  // a stream has cells of its own
};

struct Call {
  const Variant* variant;
  int64_t n_tokens, n_heads, n_cells, n_kv_heads, n_streams;
  int64_t key_size, value_size;  // numbers of one head, see supports()
  const char* q;                 // f32[n_streams, n_heads, n_tokens, key_size]
  const char* k;                 // f16[n_streams, n_kv_heads, n_cells, key_size]
  const char* v;                 // f16[n_streams, n_kv_heads, n_cells, value_size]
  const char* mask;              // f16[n_streams, n_tokens, n_cells]; -inf: the cell is not seen
  Strides q_strides, k_strides, v_strides, mask_strides;
  float* out;          // f32[n_streams, n_tokens, n_heads, value_size]
  const float* sinks;  // f32[n_heads]: the score of one cell more without a value; or null
  float scale, max_bias, softcap;  // max_bias: ALiBi's; softcap: of scores; 0: none
};

// Whether attend() can compute heads of these sizes: multiples of 16 numbers.
constexpr bool supports(int64_t key_size, int64_t value_size) {
  return key_size > 0 && value_size > 0 && key_size % 16 == 0 && value_size % 16 == 0;
}

// Bytes that the threads of a call share while it runs.
size_t scratch_size(const Call& call, int n_threads);

// One thread's part of a call. Every thread from 0 to n_threads - 1 calls it with the same scratch.
void attend(const Call& call, int thread, int n_threads, void* scratch, const Barrier& barrier);

}  // namespace ersd::attention
