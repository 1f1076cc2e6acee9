// The natural logarithm by operations that IEEE 754 rounds exactly, so that clocks are the same
// bits on every machine; libm's are not.
#pragma once

#include <bit>
#include <cstdint>

namespace ersd {

// log(x) within 1 ulp, for normal x > 0 (fdlibm's e_log.c, Sun Microsystems 1993). Without
// branches: loops over it become vector code.
inline double logarithm(double x) {
  constexpr uint64_t kSqrtHalf = 0x3FE6A09E00000000, kOne = 0x3FF0000000000000,
                     kMantissa = 0x000FFFFFFFFFFFFF;
  const uint64_t bits = std::bit_cast<uint64_t>(x) + (kOne - kSqrtHalf);
  const double k = std::bit_cast<double>((bits >> 52) | 0x4330000000000000) -
                   (0x1p52 + 1023);  // x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2))
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
