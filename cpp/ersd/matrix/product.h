// Products of weights in Q8_0 with the inputs of several tokens, which read each weight once.
//
// llama.cpp's own code for a few tokens waits for memory, since it jumps between rows, and so a
// call of two tokens costs as much as two calls of one. Here, weights are fetched in their order
// ahead of their use, and a weight that was unpacked serves up to 8 tokens.
//
// Each product has the bits that llama.cpp has for one token, whatever other tokens are in the
// call: inputs are rounded to Q8_0, every fourth of 8 sums takes four neighbouring numbers of each
// block, multiplied as whole numbers, and the product of the two scales, in the order of the
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ersd/matrix/variants.h"
#include "ersd/operation.h"

namespace ersd::matrix {

// The variants that this processor supports, from the slowest to the fastest. There may be none.
std::span<const Variant* const> supported_variants();

struct Product {
  const Variant* variant;
  int64_t n_rows, n_tokens;
  int64_t n_numbers;                        // of a row and of a token's inputs, a multiple of 32
  const char* weights;                      // Q8_0[n_rows, n_numbers]
  const char* inputs;                       // f32[n_tokens, n_numbers]
  char* out;                                // f32[n_tokens, n_rows]
  size_t weights_row, inputs_row, out_row;  // bytes from one row to the next
};

// Bytes that the threads of a product share while it is computed.
size_t scratch_size(const Product& product);

// One thread's part of a product. Every thread from 0 to n_threads - 1 calls it with the same
// scratch.
void multiply(const Product& product, int thread, int n_threads, void* scratch,
              const Barrier& barrier);

}  // namespace ersd::matrix
