// The portable variant, for processors and compilers without one of their own.
#include <cstring>

#include "ersd/race/simd/philox.h"
#include "ersd/race/simd/variants.h"

namespace ersd::simd {

void philox_portable(const PhiloxStream& stream, const uint32_t* index,
                     uint32_t (*words)[kCounters]) {
  for (uint32_t i = 0; i < kCounters; ++i) {
    uint64_t a = index[i], b = stream.position, c = stream.domain, d = stream.kind;
    philox_rounds(a, b, c, d, stream.key0, stream.key1);
    words[0][i] = static_cast<uint32_t>(a), words[1][i] = static_cast<uint32_t>(b);
    words[2][i] = static_cast<uint32_t>(c), words[3][i] = static_cast<uint32_t>(d);
  }
}

size_t indices_at_least_portable(const float* x, size_t size, float least, int32_t offset,
                                 int32_t* out) {
  size_t n = 0, i = 0;
  for (; i + 8 <= size; i += 8) {
    uint8_t reached[8];
    for (size_t j = 0; j < 8; ++j) reached[j] = x[i + j] >= least;
    uint64_t any;  // most groups of eight reach nothing, and one test passes over them
    std::memcpy(&any, reached, sizeof(any));
    for (size_t j = 0; any && j < 8; ++j) {
      out[n] = offset + static_cast<int32_t>(i + j);
      n += reached[j];
    }
  }
  for (; i < size; ++i)
    if (x[i] >= least) out[n++] = offset + static_cast<int32_t>(i);
  return n;
}

}  // namespace ersd::simd
