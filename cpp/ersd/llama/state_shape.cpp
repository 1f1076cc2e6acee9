// A walk along llama.cpp's bytes of a sequence (its functions state_write_meta, state_write_data).
#include "ersd/llama/state_shape.h"

#include <algorithm>
#include <cstring>

namespace ersd::llama {

// Reads from front to back. After a read beyond the end, everything fails.
class StateShape::Reader {
 public:
  Reader(std::span<const uint8_t> bytes, int32_t n) : left_(bytes), n_(n) {}

  bool is_at_end() const { return left_.empty(); }
  bool head() { return skip(sizeof(uint32_t) + sizeof(int32_t)); }  // magic number and sequence

  // A cache with keys and values; `all` says that it must have every position.
  bool attention(const Attention& kind, bool all) {
    uint32_t n_streams = 0, n_cells = 0;
    if (!read(n_streams) || n_streams == 0 || n_streams > kMost) return false;
    for (uint32_t i = 0; i < n_streams; ++i) {
      uint32_t n = 0;
      if (!read(n)) return false;
      if (n > 0 && !(cells(kind, n) && data(kind, n))) return false;
      n_cells += n;
    }
    return all ? n_cells == static_cast<uint32_t>(n_) : n_cells <= static_cast<uint32_t>(n_);
  }
  // The head of a recurrent state. llama.cpp compares the rest with the model.
  bool recurrent() {
    uint32_t n_cells = 0, n_ids = 0, is_transposed = 0, n_layers = 0;
    int32_t position = 0;
    return read(n_cells) && n_cells == 1 && read(position) && position == n_ - 1 && read(n_ids) &&
           n_ids == 0 && read(is_transposed) && is_transposed == 0 && read(n_layers) &&
           n_layers <= kMost;
  }

 private:
  static constexpr uint32_t kMost = 1 << 16;  // layers and streams

  bool skip(uint64_t n) {
    const bool has = n <= left_.size();
    left_ = has ? left_.subspan(static_cast<size_t>(n)) : std::span<const uint8_t>();
    return has;
  }
  template <class Number>
  bool read(Number& value) {
    if (left_.size() >= sizeof(value)) std::memcpy(&value, left_.data(), sizeof(value));
    return skip(sizeof(value));
  }
  bool cells(const Attention& kind, uint32_t n) {
    if (n > static_cast<uint32_t>(n_)) return false;
    std::vector<bool> seen(static_cast<size_t>(n_));
    for (uint32_t i = 0; i < n; ++i) {
      int32_t position = -1;
      uint32_t n_ids = 0;
      if (!read(position) || position < 0 || position >= n_ || !read(n_ids) || n_ids != 1)
        return false;
      if (seen[static_cast<size_t>(position)]) return false;
      seen[static_cast<size_t>(position)] = true;
      if (!skip((kind.has_extension ? 3 * sizeof(int32_t) : 0) + sizeof(int32_t))) return false;
    }
    return true;
  }
  bool data(const Attention& kind, uint32_t n) {
    uint32_t is_transposed = 0, n_layers = 0;
    if (!read(is_transposed) || is_transposed > 1 || !read(n_layers) || n_layers > kMost)
      return false;
    if (!layers(n_layers, n, false)) return false;
    return !kind.has_values || layers(n_layers, n, is_transposed == 1);
  }
  // The keys or the values of all layers. Each says its type and the size of what a cell has.
  bool layers(uint32_t n_layers, uint32_t n, bool is_transposed) {
    for (uint32_t i = 0; i < n_layers; ++i) {
      int32_t type = 0;
      uint64_t size = 0;
      uint32_t element = 0, n_elements = 0;
      if (!read(type)) return false;
      if (is_transposed ? !read(element) || !read(n_elements) : !read(size)) return false;
      if (is_transposed) size = uint64_t{element} * n_elements;
      if (size > left_.size() || !skip(size * n)) return false;
    }
    return true;
  }

  std::span<const uint8_t> left_;
  int32_t n_;
};

StateShape::StateShape(std::span<const uint8_t> of_one_token) {
  Reader reader(of_one_token, 1);
  is_known_ = reader.head() && find_parts(reader);
}

// Finds the parts of what is left. Tries each kind of part that may come next.
bool StateShape::find_parts(const Reader& reader) {
  if (reader.is_at_end()) return !caches_.empty();
  if (Reader(reader).recurrent()) return is_recurrent_ = true;
  for (const bool has_extension : {false, true}) {
    for (const bool has_values : {true, false}) {
      Reader after = reader;
      caches_.push_back({has_extension, has_values});
      if (after.attention(caches_.back(), true) && find_parts(after)) return true;
      caches_.pop_back();
    }
  }
  return false;
}

bool StateShape::fits(std::span<const uint8_t> bytes, int32_t n) const {
  Reader reader(bytes, n);
  if (!is_known_) return true;
  if (!reader.head()) return false;
  for (size_t i = 0; i < caches_.size(); ++i)
    if (!reader.attention(caches_[i], i == 0)) return false;
  return is_recurrent_ ? reader.recurrent() : reader.is_at_end();
}

}  // namespace ersd::llama
