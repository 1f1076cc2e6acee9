// Turns the bytes of tokens into text that can be shown at once: whole UTF-8 characters, without
// anything that may still become a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ersd {

class TextStream {
 public:
  // stop: non-empty UTF-8 strings. The text ends before the first one that is complete. If a token
  // completes several, the one that begins first counts.
  explicit TextStream(std::vector<std::string> stop = {}) : stop_(std::move(stop)) {}

  // Takes the bytes of one token and appends the text that is now certain to out. Returns false
  // once a stop string is complete; later bytes are ignored.
  bool push(std::string_view bytes, std::string& out);

  // Ends the text: appends what was held back. An incomplete character becomes U+FFFD.
  void finish(std::string& out);

  bool stopped() const { return stopped_; }

 private:
  void release(size_t n, bool last, std::string& out);

  std::vector<std::string> stop_;
  std::string held_;  // bytes that are not shown yet
  bool stopped_ = false;
};

// Appends bytes to out as valid UTF-8. Each maximal ill-formed part becomes U+FFFD (Unicode 15,
// section 3.9). An incomplete character at the end is left out unless `last` is true. Returns the
// number of bytes used.
size_t append_utf8(std::string_view bytes, bool last, std::string& out);

}  // namespace ersd
