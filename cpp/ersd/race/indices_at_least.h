// Lists the values of a row that reach a limit. Most of a race is vector code over whole rows; this
// picks the few blocks and tokens that the rest of the race looks at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ersd/race/simd/variants.h"

namespace ersd {

using simd::kIndexSlack;

// Writes offset + i for each x[i] >= least in ascending order and returns how many it wrote. NaN
// reaches no limit. out: i32[x.size() + kIndexSlack]; the rest of out is arbitrary.
inline size_t indices_at_least(std::span<const float> x, float least, int32_t offset,
                               int32_t* out) {
  return simd::best_variant.indices_at_least(x.data(), x.size(), least, offset, out);
}

}  // namespace ersd
