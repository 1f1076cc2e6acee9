// Rows of results, and the four ways to print them.
#pragma once

#include <iosfwd>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "arguments.h"

namespace ersd::bench {

// Keys in the order of output; a value is text, a number, an integer, a truth value or nothing.
using Value = std::variant<std::monostate, std::string, double, int64_t, bool>;
using Row = std::vector<std::pair<std::string, Value>>;

// Prints rows as they come: JSON needs to know where they end, so call begin() and end() around
// them.
class Report {
 public:
  Report(Format format, std::ostream& out) : format_(format), out_(out) {}
  void begin();
  void add(const Row& row);
  void end();

 private:
  Format format_;
  std::ostream& out_;
  bool first_ = true;
};

}  // namespace ersd::bench
