// A token id, the unit that every room works with.
#pragma once

#include <cstdint>

namespace ersd {

using Token = int32_t;

}  // namespace ersd
