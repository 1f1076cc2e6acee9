// Two loops that are written by hand for several instruction sets, and the choice of a variant at
// run time. Intrinsics stand in this folder and in attention/ only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// MinGW does not align the stack for AVX, and other compilers have not been tried.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define ERSD_X86_VARIANTS
#endif

namespace ersd::simd {

// What the draws of one stream share: the key of Philox and three of the four counter words. The
// first counter word is the index of the draw.
struct PhiloxStream {
  uint32_t key0, key1, position, domain, kind;
};

// The number of counters that a philox function takes. It is enough to hide the latency of a round.
constexpr uint32_t kCounters = 32;

// Writes the four random words of each counter; index: u32[kCounters], words: u32[4, kCounters].
using PhiloxFunction = void(const PhiloxStream& stream, const uint32_t* index,
                            uint32_t (*words)[kCounters]);

// Writes offset + i for each x[i] >= least in ascending order and returns how many it wrote. NaN
// reaches no limit. x: f32[size], out: i32[size + kIndexSlack]; the rest of out is arbitrary.
using IndicesFunction = size_t(const float* x, size_t size, float least, int32_t offset,
                               int32_t* out);
constexpr size_t kIndexSlack = 16;  // whole vectors are written, so the last one may overhang

struct Variant {
  const char* name;
  bool (*is_supported)();  // whether this processor has the instructions
  PhiloxFunction* philox;
  IndicesFunction* indices_at_least;
};

// Returns the variants that this processor supports, from the slowest to the fastest.
std::span<const Variant> supported_variants();

// Returns the supported variant of this name. Throws std::invalid_argument if there is none.
const Variant& variant(std::string_view name);

// The fastest supported variant, which is chosen once when the program is loaded.
extern const Variant best_variant;

void philox_portable(const PhiloxStream& stream, const uint32_t* index,
                     uint32_t (*words)[kCounters]);
size_t indices_at_least_portable(const float* x, size_t size, float least, int32_t offset,
                                 int32_t* out);

#ifdef ERSD_X86_VARIANTS
void philox_avx2(const PhiloxStream& stream, const uint32_t* index, uint32_t (*words)[kCounters]);
size_t indices_at_least_avx2(const float* x, size_t size, float least, int32_t offset,
                             int32_t* out);
void philox_avx512(const PhiloxStream& stream, const uint32_t* index, uint32_t (*words)[kCounters]);
size_t indices_at_least_avx512(const float* x, size_t size, float least, int32_t offset,
                               int32_t* out);
#endif

}  // namespace ersd::simd
