// The loops of matrix products, for the instruction sets that have them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ersd/operation.h"

namespace ersd::matrix {

constexpr int64_t kBlock = 32;  // numbers of a block of Q8_0, which share a scale

// A block of Q8_0 as it is in a file: numbers * the scale.
struct Block {
  uint16_t scale;  // in half precision
  int8_t numbers[kBlock];
};
static_assert(sizeof(Block) == 34);

// The inputs of all tokens in blocks, as llama.cpp quantises them to Q8_0.
struct Inputs {
  uint8_t* numbers;  // u8[n_tokens, n_blocks, 32], in the form that the variant's loops want
  float* scales;     // f32[n_tokens, n_blocks]
  int64_t n_tokens, n_blocks;
};

// Rows of weights in Q8_0, and where their products go.
struct Rows {
  const char* weights;
  size_t stride;  // bytes from one row to the next
  int64_t n;
  float* out;         // of the first token and row
  size_t out_stride;  // floats from one token to the next
};

struct Variant {
  const char* name;
  int64_t least_tokens;  // for fewer, llama.cpp's product takes less time
  // Writes the inputs of a token. x: f32[n_blocks * 32].
  void (*quantise)(const float* x, int64_t token, const Inputs& inputs);
  // Writes the products of the rows with all tokens.
  void (*multiply)(const Rows& rows, const Inputs& inputs);
};

#ifdef ERSD_X86_OPERATIONS
extern const Variant avx2, avx512;  // avx512: with VNNI
#endif

}  // namespace ersd::matrix
