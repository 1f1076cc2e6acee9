// Token bytes to text that can be shown: whole UTF-8 characters, and nothing that a stop string may
// still take back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ersd {

class TextStream {
 public:
  // stop: non-empty UTF-8 strings; the text ends before the first one that becomes complete (of
  // several at once, the earliest).
  explicit TextStream(std::vector<std::string> stop = {}) : stop_(std::move(stop)) {}

  // Takes the bytes of one token, appends to out what is certain now. False once a stop string is
  // complete: nothing comes after.
  bool push(std::string_view bytes, std::string& out);

  // The end of the text: appends what was held back, incomplete characters as U+FFFD.
  void finish(std::string& out);

  bool stopped() const { return stopped_; }

 private:
  void release(size_t n, bool last, std::string& out);

  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

// Appends bytes as valid UTF-8 to out, each maximal ill-formed part as U+FFFD (Unicode 15,
// section 3.9). Unless `last`, an incomplete character at the end is left. Returns how many bytes
// were taken.
size_t append_utf8(std::string_view bytes, bool last, std::string& out);

}  // namespace ersd
