// Any values of all options, and any names of methods and strategies: each is in its range after it
// was validated, and its refusal names it.
#include "ersd/decode/options.h"

#include <algorithm>
#include <stdexcept>

#include "ersd/decode/option_table.h"
#include "input.h"

using namespace ersd;
using fuzz::Input, fuzz::require;

namespace {

template <class Value>
void fill(Input& input, Value& value) {
  if constexpr (std::is_same_v<Value, bool>) {
    value = input.coin();
  } else if constexpr (std::is_arithmetic_v<Value>) {
    value = input.coin() ? input.raw<Value>() : static_cast<Value>(input.raw<int8_t>());
  } else if constexpr (std::is_enum_v<Value>) {
    value = static_cast<Value>(input.up_to(4));
  } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
    for (int32_t n = input.up_to(3); n > 0; --n) value.push_back(input.text(8));
  } else if constexpr (std::is_same_v<Value, std::vector<std::pair<Token, float>>>) {
    for (int32_t n = input.up_to(3); n > 0; --n)
      value.emplace_back(input.raw<int32_t>(), input.raw<float>());
  }
}

void check_name(const std::string& name) {
  try {
    require(to_string(method_from(name)) == name);
  } catch (const std::invalid_argument&) {
  }
  try {
    require(to_string(strategy_from(name)) == name);
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  check_name(input.text(10));
  GenerationOptions options;
  for_each_option(options, [&](const auto&, auto& value) {
    if (input.coin()) fill(input, value);
  });
  try {
    options.validate();
  } catch (const std::invalid_argument& error) {
    require(std::string_view(error.what()).find('\n') == std::string_view::npos ||
            std::string_view(error.what()).find("got '") != std::string_view::npos);
    return 0;
  }
  require(options.sampling.temperature >= 0 && options.sampling.temperature <= 1e6f);
  require(options.sampling.top_p > 0 && options.sampling.min_p >= 0);
  require(options.draft_nodes == kAuto || (options.draft_nodes >= 1 && options.draft_nodes <= 256));
  require(options.draft_depth >= 1 && options.max_tokens >= kFillContext);
  require(std::ranges::none_of(options.stop, &std::string::empty));
  return 0;
}
