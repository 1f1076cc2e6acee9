// Races over any bits as logits, compared with computing the clock of every token.
#include "ersd/race/race.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ersd/race/logarithm.h"
#include "input.h"

using namespace ersd;
using fuzz::Input, fuzz::require;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float logit(Input& input) {
  switch (input.up_to(5)) {
    case 0:
      return input.raw<float>();
    case 1:
      return -kInfinity;
    case 2:
      return 1e-40f * static_cast<float>(input.raw<int8_t>());
    default:
      return static_cast<float>(input.raw<int16_t>()) / 256;
  }
}

SamplingOptions options_of(Input& input) {
  SamplingOptions options{.temperature = 0, .top_k = 0, .top_p = 1, .min_p = 0};
  if (input.coin()) options.temperature = std::exp2(static_cast<float>(input.raw<int8_t>()) / 7);
  options.temperature = std::clamp(options.temperature, 0.0f, 1e6f);
  if (input.coin()) return options;
  options.top_k = input.up_to(20);
  options.top_p = static_cast<float>(1 + input.up_to(999)) / 1000;
  options.min_p = static_cast<float>(input.up_to(1000)) / 1000;
  options.typical_p = input.coin() ? static_cast<float>(1 + input.up_to(999)) / 1000 : 1;
  options.xtc_probability = static_cast<float>(input.up_to(1));
  return options;
}

// Compares the arrivals with those of all tokens, if nothing is truncated.
void check_all(std::span<const Arrival> arrivals, const std::vector<float>& logits,
               const SamplingOptions& options, const Clock& clock, size_t m) {
  std::vector<Arrival> expected;
  for (Token token = 0; token < static_cast<Token>(logits.size()); ++token) {
    const double x = logits[static_cast<size_t>(token)];
    if (!(x > -kInfinity)) continue;
    const double t = options.temperature;
    expected.push_back({token, t > 0 ? x / t - logarithm(clock(token)) : x});
  }
  std::ranges::sort(expected, [](const Arrival& a, const Arrival& b) {
    return a.score > b.score || (a.score == b.score && a.token < b.token);
  });
  require(arrivals.size() == std::min(m, expected.size()));
  for (size_t i = 0; i < arrivals.size(); ++i) require(arrivals[i].token == expected[i].token);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Race race;
  Input input(data, size);
  const SamplingOptions options = options_of(input);
  const Clock clock(input.raw<uint16_t>(), input.raw<uint8_t>());
  const auto m = static_cast<size_t>(1 + input.up_to(40));
  std::vector<float> logits(static_cast<size_t>(1 + input.up_to(400)));
  for (float& each : logits) each = logit(input);
  const auto found = race.arrivals(logits, options, clock, m);
  const std::vector<Arrival> arrivals(found.begin(), found.end());
  if (!options.truncates()) check_all(arrivals, logits, options, clock, m);
  for (size_t i = 0; i < arrivals.size(); ++i) {
    require(logits.at(static_cast<size_t>(arrivals[i].token)) > -kInfinity);
    require(race.rank(logits, options, clock, arrivals[i].token, m) == i);
  }
  try {
    require(race.winner(logits, options, clock).token == arrivals.at(0).token);
  } catch (const std::runtime_error&) {
    require(arrivals.empty());
  }
  return 0;
}
