// UTF-8 characters and stop strings that are split across tokens.
#include "ersd/text.h"

#include <algorithm>
#include <cstdint>

namespace ersd {

size_t append_utf8(std::string_view bytes, bool last, std::string& out) {
  size_t i = 0;
  while (i < bytes.size()) {
    const auto lead = static_cast<uint8_t>(bytes[i]);
    const size_t length = lead < 0x80                    ? 1
                          : lead >= 0xC2 && lead <= 0xDF ? 2
                          : lead >= 0xE0 && lead <= 0xEF ? 3
                          : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                         : 0;
    size_t valid = length ? 1 : 0;
    for (; valid > 0 && valid < length && i + valid < bytes.size(); ++valid) {
      const auto next = static_cast<uint8_t>(bytes[i + valid]);
      // After some first bytes the second one has a narrower range, which excludes overlong forms,
      // surrogates and code points above U+10FFFF.
      const uint8_t least = valid > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
      const uint8_t most = valid > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
      if (next < least || next > most) break;
    }
    if (length && valid == length) {
      out.append(bytes, i, length);
    } else if (length && i + valid == bytes.size() && !last) {
      return i;  // the rest of the character may still come
    } else {
      out += "\xEF\xBF\xBD";
    }
    i += std::max<size_t>(valid, 1);
  }
  return i;
}

// Shows the first n bytes that are held.
void TextStream::release(size_t n, bool last, std::string& out) {
  held_.erase(0, append_utf8(std::string_view(held_).substr(0, n), last, out));
}

bool TextStream::push(std::string_view bytes, std::string& out) {
  if (stopped_) return false;
  held_ += bytes;
  size_t cut = std::string::npos;
  for (const auto& stop : stop_) cut = std::min(cut, held_.find(stop));
  if (cut != std::string::npos) {
    stopped_ = true;
    release(cut, true, out);
    held_.clear();
    return false;
  }
  // Hold the longest tail that is the beginning of a stop string.
  size_t keep = 0;
  for (const auto& stop : stop_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
  release(held_.size() - keep, false, out);
  return true;
}

void TextStream::finish(std::string& out) {
  if (!stopped_) release(held_.size(), true, out);
  held_.clear();
}

}  // namespace ersd
