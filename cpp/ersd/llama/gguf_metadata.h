// The metadata of a GGUF file, and the ranges that its values must be in.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct gguf_context;

namespace ersd::llama {

class GgufMetadata {
 public:
  // The header must outlive the object.
  // name: of the file, for messages.
  GgufMetadata(const gguf_context& header, std::string name);

  // The values of a key, which may be one number or an array of numbers; as double, which holds all
  // integers that are not refused anyway. Empty if there is no such key, or if it has values of
  // another type, which llama.cpp refuses.
  std::vector<double> numbers(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;  // the first value
  // Empty if there is no such key, or if it has a value of another type.
  std::string_view text(const std::string& key) const;
  bool has(const std::string& key) const;

  // Throw std::invalid_argument that names the file and the first wrong value.
  void check_model() const;    // sizes, factors, experts, heads and the vocabulary
  void check_adapter() const;  // types of the values that llama.cpp reads unchecked

  [[noreturn]] void refuse(const std::string& fault) const;

 private:
  void check_ranges() const;
  void check_experts() const;
  void check_heads() const;
  void check_vocabulary() const;
  void check_tokens(int64_t id) const;
  std::string key(const char* suffix) const { return architecture_ + "." + suffix; }

  const gguf_context& header_;
  std::string name_, architecture_;
};

}  // namespace ersd::llama
