// Products of some rows and some tokens. Each variant includes this file within its namespace,
// after the vectors that it is made of:
//   kVectors      vectors of weights that are computed together, of kRowsOfVector rows each
//   kMostTokens   tokens that are computed together
//   Floats        8 sums of each row of a vector
//   Weights       a block of the rows of a vector; its scales: Floats
//   unpack(rows, block)         reads Weights. rows: const Block* of each row of the vector
//   products(weights, numbers)  sums of four products each, as Floats. numbers: a token's block
//   write<kTokens>(sums, out, out_stride, n)  adds up sums in llama.cpp's order and writes n rows
// There is no include guard, and nothing is included here.

constexpr int kRows = kVectors * kRowsOfVector;
constexpr int64_t kAhead = 8192;  // bytes of weights that are fetched before they are needed

using RowsOfTile = std::array<const Block*, kRows>;
using Sums = std::array<std::array<Floats, kMostTokens>, kVectors>;

// Writes the products of n rows, at most kRows, with kTokens tokens from the given one on.
template <int kTokens>
void multiply_tile(const RowsOfTile& rows, const Inputs& inputs, int64_t token, float* out,
                   size_t out_stride, int64_t n) {
  Sums sums{};
  const auto* numbers = inputs.numbers + token * inputs.n_blocks * kBlock;
  const float* scales = inputs.scales + token * inputs.n_blocks;
  const char* ahead = reinterpret_cast<const char*>(rows[0]) + kAhead;
  for (int64_t block = 0; block < inputs.n_blocks; ++block) {
    constexpr int64_t kStep = kRows * sizeof(Block);
    for (int64_t line = 0; line < kStep + kCacheLine - 1; line += kCacheLine)
      _mm_prefetch(ahead + line, _MM_HINT_T1);
    ahead += kStep;
    std::array<Weights, kVectors> weights;
    for (size_t v = 0; v < kVectors; ++v)
      weights[v] = unpack(rows.data() + v * kRowsOfVector, block);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const int64_t at = t * inputs.n_blocks + block;
      const auto x = load_inputs(numbers + at * kBlock);
      for (size_t v = 0; v < kVectors; ++v) {
        Floats& sum = sums[v][static_cast<size_t>(t)];
        sum = multiply_add(weights[v].scales * all(scales[at]), products(weights[v], x), sum);
      }
    }
  }
  write<kTokens>(sums, out, out_stride, n);
}

template <int... kLess>
constexpr auto tiles(std::integer_sequence<int, kLess...>) {
  return std::array{multiply_tile<kLess + 1>...};
}
constexpr auto kMultiplyTile = tiles(std::make_integer_sequence<int, kMostTokens>());

void multiply(const Rows& rows, const Inputs& inputs) {
  for (int64_t first = 0; first < rows.n; first += kRows) {
    RowsOfTile of_tile;
    for (int64_t i = 0; i < kRows; ++i)  // where rows are lacking, the last one is computed again
      of_tile[static_cast<size_t>(i)] = reinterpret_cast<const Block*>(
          rows.weights + static_cast<size_t>(std::min(first + i, rows.n - 1)) * rows.stride);
    for (int64_t token = 0; token < inputs.n_tokens; token += kMostTokens) {
      const int64_t n = std::min<int64_t>(kMostTokens, inputs.n_tokens - token);
      kMultiplyTile[static_cast<size_t>(n - 1)](
          of_tile, inputs, token, rows.out + first + static_cast<size_t>(token) * rows.out_stride,
          rows.out_stride, std::min<int64_t>(kRows, rows.n - first));
    }
  }
}
