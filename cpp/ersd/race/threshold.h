// Which values of a row reach a limit: what leaves vector code for a list of a few places.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ersd {

constexpr size_t kIndexSlack = 16;

// Writes offset + i for each x[i] >= least, in order, NaN being less than all; returns how many.
// out: i32[x.size() + kIndexSlack], what follows them arbitrary.
size_t indices_at_least(std::span<const float> x, float least, int32_t offset, int32_t* out);

}  // namespace ersd
