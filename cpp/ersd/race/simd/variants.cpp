// The table of variants, and which of them this processor supports.
#include "ersd/race/simd/variants.h"

#include <array>
#include <stdexcept>
#include <string>

namespace ersd::simd {
namespace {

#ifdef ERSD_X86_VARIANTS
// The levels are those for which the variants are compiled. GCC's function also asks whether the
// operating system saves the wide registers.
bool has_avx2() { return __builtin_cpu_supports("x86-64-v3"); }
bool has_avx512() { return __builtin_cpu_supports("x86-64-v4"); }
#endif

// From the slowest to the fastest; each variant needs all that the one before it needs. Each gains
// more than 10 % of a race on some machine (bench/results/race/README.md).
constexpr std::array kVariants{
    Variant{"portable", [] { return true; }, philox_portable, indices_at_least_portable},
#ifdef ERSD_X86_VARIANTS
    Variant{"avx2", has_avx2, philox_avx2, indices_at_least_avx2},
    Variant{"avx512", has_avx512, philox_avx512, indices_at_least_avx512},
#endif
};

}  // namespace

std::span<const Variant> supported_variants() {
  size_t n = 1;
  while (n < kVariants.size() && kVariants[n].is_supported()) ++n;
  return std::span(kVariants).first(n);
}

const Variant best_variant = supported_variants().back();

const Variant& variant(std::string_view name) {
  std::string names;
  for (const Variant& v : supported_variants()) {
    if (v.name == name) return v;
    names += names.empty() ? v.name : std::string(", ") + v.name;
  }
  throw std::invalid_argument("variant must be one of " + names + ", got " + std::string(name));
}

}  // namespace ersd::simd
