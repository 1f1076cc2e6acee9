// Which cells tokens see, from the mask that llama.cpp makes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ersd/attention/variants.h"
#include "ersd/race/simd/lanes.h"

namespace ersd::attention {

struct Seen {
  int64_t own, all;  // cells that one token sees, and that any of several does
};

constexpr int64_t kCounted = 4096;  // cells that are counted in 16 bits

// Marks the cells that one token sees. mask: f16[n] as its bits, seen: u16[n].
ERSD_VECTORISED inline Seen mark_cells(const uint16_t* mask, int64_t n, uint16_t* seen) {
  Seen sum{0, 0};
  for (int64_t begin = 0; begin < n; begin += kCounted) {
    const int64_t end = std::min(n, begin + kCounted);
    uint16_t own_here = 0, all_here = 0;  // of the same width, so that the loop is vectorised
    for (int64_t i = begin; i < end; ++i) {
      const auto sees = static_cast<uint16_t>(mask[i] != kUnseen);
      seen[i] = static_cast<uint16_t>(seen[i] | sees);
      own_here = static_cast<uint16_t>(own_here + sees);
      all_here = static_cast<uint16_t>(all_here + seen[i]);
    }
    sum.own += own_here;
    sum.all += all_here;
  }
  return sum;
}

}  // namespace ersd::attention
