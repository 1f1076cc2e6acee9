// Bytes in pieces of any length, with any stop strings: text is valid UTF-8 and loses nothing.
#include "ersd/text.h"

#include "input.h"

using namespace ersd;
using fuzz::Input, fuzz::require;

namespace {

std::string as_utf8(const std::string& bytes) {
  std::string out;
  require(append_utf8(bytes, true, out) == bytes.size());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  std::vector<std::string> stop;
  for (int32_t n = input.up_to(3); n > 0; --n)
    if (std::string each = input.text(6); !each.empty()) stop.push_back(std::move(each));
  TextStream stream(stop);
  std::string bytes, out;
  while (!input.is_empty() && !stream.stopped()) {
    const std::string piece = input.text(12);
    bytes += piece;
    require(stream.push(piece, out) != stream.stopped());
    require(as_utf8(out) == out);
  }
  stream.finish(out);
  require(as_utf8(out) == out);
  size_t cut = std::string::npos;
  for (const std::string& each : stop) cut = std::min(cut, bytes.find(each));
  require(stream.stopped() == (cut != std::string::npos));
  require(out == as_utf8(bytes.substr(0, cut)));
  return 0;
}
