// The natural logarithm, by operations that IEEE 754 rounds exactly. So clocks have the same bits
// on every machine, which libm does not promise.
#pragma once

#include <bit>
#include <cstdint>

namespace ersd {

// log(x) within 1 ulp for normal x > 0 (fdlibm's e_log.c, Sun Microsystems 1993). It has no
// branches, so that the compiler can vectorise loops over it.
inline double logarithm(double x) {
  constexpr uint64_t kSqrtHalf = 0x3FE6A09E00000000, kOne = 0x3FF0000000000000,
                     kMantissa = 0x000FFFFFFFFFFFFF;
  const uint64_t bits = std::bit_cast<uint64_t>(x) + (kOne - kSqrtHalf);
  // x = 2^k (1 + f), with 1 + f in [sqrt(1/2), sqrt(2))
  const double k = std::bit_cast<double>((bits >> 52) | 0x4330000000000000) - (0x1p52 + 1023);
  const double f = std::bit_cast<double>((bits & kMantissa) + kSqrtHalf) - 1;
  const double s = f / (2 + f), z = s * s, w = z * z, half_square = 0.5 * f * f;
  const double even = w * (3.999999999940941908e-01 +
                           w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const double odd = z * (6.666666666666735130e-01 +
                          w * (2.857142874366239149e-01 +
                               w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  return s * (half_square + (odd + even)) + k * 1.90821492927058770002e-10 - half_square + f +
         k * 6.93147180369123816490e-01;
}

}  // namespace ersd
