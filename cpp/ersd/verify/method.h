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
};

constexpr size_t kMethodCount = 5;

// Whether the target's token is the winner of a race. All these methods give the same text for a
// seed. Rejection sampling is as exact, but its text depends on draft and tree.
constexpr bool is_race(Method method) {
  return method != Method::kGsd && method != Method::kGsdIid;
}

}  // namespace ersd
