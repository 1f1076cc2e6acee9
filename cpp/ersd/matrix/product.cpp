// How a product is divided among threads.
#include "ersd/matrix/product.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <new>

namespace ersd::matrix {
namespace {

// Each thread begins with a share of its own, most of the rows, so that it reads weights in their
// order. It takes the rest in pieces, so that a thread that loses its core holds up nobody for
// long.
constexpr int64_t kPiece = 16;  // rows

#ifdef ERSD_X86_OPERATIONS
constexpr std::array<const Variant*, 2> kVariants{&avx2, &avx512};
#else
constexpr std::array<const Variant*, 0> kVariants{};
#endif

// The scratch of a product.
struct Scratch {
  std::atomic<int64_t>* next;  // row that no thread has taken
  Inputs inputs;
  size_t size;
};

Scratch scratch_of(const Product& product, void* memory) {
  const int64_t n_blocks = product.n_numbers / kBlock;
  const auto at = round_up(static_cast<int64_t>(reinterpret_cast<uintptr_t>(memory)), kCacheLine);
  const int64_t n_numbers = product.n_tokens * product.n_numbers;
  const int64_t scales = kCacheLine + round_up(n_numbers, kCacheLine);
  const int64_t n_scales = product.n_tokens * n_blocks;
  return {
      reinterpret_cast<std::atomic<int64_t>*>(at),
      {reinterpret_cast<uint8_t*>(at + kCacheLine), reinterpret_cast<float*>(at + scales),
       product.n_tokens, n_blocks},
      static_cast<size_t>(kCacheLine + scales + n_scales * static_cast<int64_t>(sizeof(float)))};
}

}  // namespace

std::span<const Variant* const> supported_variants() {
  size_t n = 0;
#ifdef ERSD_X86_OPERATIONS
  if (__builtin_cpu_supports("x86-64-v3")) n = 1;
  if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni")) n = 2;
#endif
  return std::span(kVariants).first(n);
}

size_t scratch_size(const Product& product) { return scratch_of(product, nullptr).size; }

void multiply(const Product& product, int thread, int n_threads, void* memory,
              const Barrier& barrier) {
  const Scratch scratch = scratch_of(product, memory);
  const int64_t own = product.n_rows * 3 / 4 / n_threads / kPiece * kPiece;
  if (thread == 0) new (scratch.next) std::atomic<int64_t>(n_threads * own);
  for (int64_t token = thread; token < product.n_tokens; token += n_threads) {
    const char* inputs = product.inputs + static_cast<size_t>(token) * product.inputs_row;
    product.variant->quantise(reinterpret_cast<const float*>(inputs), token, scratch.inputs);
  }
  barrier();
  const auto multiply_rows = [&](int64_t first, int64_t n) {
    product.variant->multiply(
        {product.weights + static_cast<size_t>(first) * product.weights_row, product.weights_row, n,
         reinterpret_cast<float*>(product.out) + first, product.out_row / sizeof(float)},
        scratch.inputs);
  };
  multiply_rows(thread * own, own);
  int64_t first;
  while ((first = scratch.next->fetch_add(kPiece, std::memory_order_relaxed)) < product.n_rows)
    multiply_rows(first, std::min(kPiece, product.n_rows - first));
}

}  // namespace ersd::matrix
