// CUDA's half on the host. The conversions are arithmetic on whole numbers of the last place, unlike
// csrc/dtype.h's.
#pragma once

#include <cmath>

struct __half {
  unsigned short bits;
};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }

inline float __half2float(__half a) {
  const int exponent = a.bits >> 10 & 31, fraction = a.bits & 1023;
  const float size = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                     : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                     : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return std::copysign(size, a.bits >> 15 ? -1.0f : 1.0f);
}

inline __half __float2half_rn(float a) {
  const unsigned short sign = std::signbit(a) ? 0x8000 : 0;
  const float size = std::fabs(a);
  if (std::isnan(a)) return {0x7FFF};
  if (size >= 65520.0f) return {static_cast<unsigned short>(sign | 0x7C00)};
  int exponent = -13;  // size < 2^exponent; of subnormal numbers as of the smallest normal ones
  if (size >= 6.103515625e-5f) std::frexp(size, &exponent);
  const auto places = static_cast<int>(std::nearbyint(std::ldexp(size, 11 - exponent)));  // ties to even
  return {static_cast<unsigned short>(sign | (((exponent + 14) << 10) + places - 1024))};
}
