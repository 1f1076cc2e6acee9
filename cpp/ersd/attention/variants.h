// The loops of attention for one unit of work, compiled for several instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ersd/operation.h"

namespace ersd::attention {

constexpr uint16_t kUnseen = 0xfc00;  // -inf in half precision
constexpr int kMargin = 128;          // at least a tile and kAhead
constexpr int kAhead = 32;            // cells that are fetched before they are needed
constexpr float kInfinity = __builtin_inff();

// Queries of neighbouring tokens that see nearly the same cells, and of the heads that share keys:
// row = token * n_heads + head.
struct Unit {
  int64_t n_tokens, n_heads, n_rows;
  int64_t n_cells;  // that a token of the unit sees
  int64_t stride;   // floats between two rows of scores: n_cells in whole tiles
  int64_t key_size, value_size;
  const float* q;  // f32[n_rows, key_size], scaled
  const char *k, *v, *mask;
  size_t k_row, v_row, mask_row;
  const float* slopes;  // f32[n_heads]: what the mask is multiplied by
  float softcap;
};

// cells: i32[unit.n_cells + kMargin], ascending; the rest repeats the last one. Results of
// different ranges are independent.
struct Variant {
  const char* name;
  int tile;   // cells whose scores are computed together
  int rows;   // rows whose values are added together
  int width;  // numbers of a vector
  // Writes the scores of tiles [first, last); scores: f32[n_rows, stride], columns: scratch of
  // f32[key_size, tile].
  void (*scores)(const Unit& unit, const int32_t* cells, int64_t first, int64_t last,
                 float* columns, float* scores);
  // Turns a row of scores into weights, of which the greatest is 1, and returns their sum. sink:
  // the score of one cell more, or -inf.
  float (*weights)(float* scores, int64_t n_cells, float sink);
  // Writes the vectors [first, last) of the weighted means, counted through groups of rows.
  // inverse: f32[n_rows], 1 / sum of the weights; out: n_rows pointers to f32[value_size].
  void (*values)(const Unit& unit, const int32_t* cells, const float* weights, int64_t first,
                 int64_t last, const float* inverse, float* const* out);
};

#ifdef ERSD_X86_OPERATIONS
extern const Variant avx2, avx512;
#endif

}  // namespace ersd::attention
