// An input of a fuzzer, read from front to back. After its end come zeros.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace ersd::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool is_empty() const { return left_ == 0; }

  // Any bits of a number, also those of NaN and of subnormal numbers.
  template <class Number>
  Number raw() {
    Number value{};
    const size_t n = std::min(sizeof(value), left_);
    std::memcpy(&value, data_, n);
    skip(n);
    return value;
  }
  // A number from 0 to most.
  int32_t up_to(int32_t most) {
    return static_cast<int32_t>(raw<uint16_t>() % (static_cast<uint32_t>(most) + 1));
  }
  bool coin() { return raw<uint8_t>() % 2 != 0; }
  std::string text(size_t most) {
    const size_t n = std::min<size_t>(raw<uint8_t>() % (most + 1), left_);
    std::string value(reinterpret_cast<const char*>(data_), n);
    skip(n);
    return value;
  }
  std::string rest() {
    std::string value(reinterpret_cast<const char*>(data_), left_);
    skip(left_);
    return value;
  }

 private:
  void skip(size_t n) { data_ += n, left_ -= n; }

  const uint8_t* data_;
  size_t left_;
};

// Ends the program, so that the fuzzer reports the input, unless something holds.
inline void require(bool holds) {
  if (!holds) __builtin_trap();
}

}  // namespace ersd::fuzz
