// Rows of results, and the four formats to print them in.
#pragma once

#include <iosfwd>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "arguments.h"

namespace ersd::bench {

// A row has its keys in the order of output. std::monostate stands for a missing value.
using Value = std::variant<std::monostate, std::string, double, int64_t, bool>;
using Row = std::vector<std::pair<std::string, Value>>;

// Prints each row as soon as it is added. Call begin() before the first row and end() after the
// last, since JSON needs brackets around all rows.
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
