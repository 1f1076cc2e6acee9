// How many tokens a call may have.
#pragma once

#include <cstdint>

namespace ersd {

// llama.cpp's kernels differ by the number of tokens in a call, and so do the last bits of what
// they compute. Calls that are padded to widths of one kind have the same bits.
struct CallWidths {
  int32_t step = 1;  // every call has a multiple of this many tokens
  int32_t most = 0;  // no call has more, a multiple of the step; 0: no limit

  bool pads() const { return step > 1; }

  // The width of a call with n tokens.
  int32_t padded(int32_t n) const { return (n + step - 1) / step * step; }
};

}  // namespace ersd
