// A token id, the type that every other file of the core shares.
#pragma once

#include <cstdint>

namespace ersd {

using Token = int32_t;

}  // namespace ersd
