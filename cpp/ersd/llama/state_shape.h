// How llama.cpp writes a saved sequence, so that a state from elsewhere can be checked before
// llama.cpp reads it: llama.cpp checks types and sizes, but trusts positions, and asserts that a
// recurrent state has one cell.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ersd::llama {

// The parts of llama.cpp's bytes of a sequence: one for each cache with keys and values, and a
// recurrent state at the end of some.
class StateShape {
 public:
  // Reads the shape from bytes of a sequence of one token, which must come from llama.cpp itself.
  explicit StateShape(std::span<const uint8_t> of_one_token);

  // Whether bytes have this shape and the positions 0 to n - 1: each of them once in the first
  // cache, and none twice in the others, which may lack what has left a sliding window. Any bytes
  // fit a shape that could not be read: llama.cpp has kinds of caches that this file does not know.
  bool fits(std::span<const uint8_t> bytes, int32_t n) const;

 private:
  struct Attention {
    bool has_extension = false;  // whether each cell has a position in an image and its token
    bool has_values = false;     // some models compute the values from the keys
  };
  class Reader;
  bool find_parts(const Reader& reader);

  std::vector<Attention> caches_;
  bool is_recurrent_ = false;
  bool is_known_ = false;
};

}  // namespace ersd::llama
