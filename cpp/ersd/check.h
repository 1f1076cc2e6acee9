// Checks of a caller's arguments. The message of each error is one sentence: which argument must be
// what, and which value came.
#pragma once

#include <array>
#include <concepts>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace ersd {

// A number as text for a message.
inline std::string shown(std::floating_point auto value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", static_cast<double>(value));
  return text.data();
}
inline std::string shown(std::integral auto value) { return std::to_string(value); }

// Throws std::invalid_argument: "who must be expected, got value".
[[noreturn]] void refuse(const std::string& who, const std::string& expected, auto got) {
  throw std::invalid_argument(who + " must be " + expected + ", got " + shown(got));
}

// Throw std::invalid_argument unless the value is in the range. Both ends belong to the range. NaN
// is in no range.
template <class Number>
void check_at_least(const std::string& who, Number value, Number least) {
  if (!(value >= least)) refuse(who, "at least " + shown(least), value);
}
template <class Number>
void check_between(const std::string& who, Number value, Number least, Number most) {
  if (!(value >= least && value <= most))
    refuse(who, "between " + shown(least) + " and " + shown(most), value);
}

}  // namespace ersd
