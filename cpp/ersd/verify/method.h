// The methods of decoding that a caller can choose: races, rejection sampling, and none.
#pragma once

#include <cstddef>

namespace ersd {

enum class Method {
  kErsd,    // the draft's arrivals are tried; the target's winner by the same clocks is emitted
  kAr,      // plain decoding: the target's winner, without a draft
  kGsd,     // greedy rejection sampling with distinct siblings
  kGsdIid,  // greedy rejection sampling with independent siblings
  // llama.cpp's rule: the draft's most probable tokens are tried; the target's winner is emitted
  kMatch,
  kBlock,  // block verification of a chain
};

constexpr size_t kMethodCount = 6;

// Whether the target's token is the winner of a race. All these methods give the same text for a
// seed. Rejection sampling and block verification are as exact, but their text depends on draft and
// tree.
constexpr bool is_race(Method method) {
  return method == Method::kErsd || method == Method::kAr || method == Method::kMatch;
}

}  // namespace ersd
