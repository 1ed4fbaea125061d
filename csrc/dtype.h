// Element types of samples: how they are loaded into and stored from the type that kernels compute in.
#pragma once

#include "number.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace latentdiff {

enum class Dtype : int { float32, float64, float16, bfloat16 };

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

// What 16-bit and float32 samples compute in: float, rounded once at the store. float64 stays float64.
template <class T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

LD_FN float load(float x) { return x; }
LD_FN double load(double x) { return x; }
LD_FN float load(Bfloat x) { return Scalar<float>::from_bits(static_cast<uint32_t>(x.bits) << 16); }
LD_FN float load(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7FFFu;
  if (rest < 0x0400u) {  // zero or subnormal: rest * 2^-24, exactly
    const float small = static_cast<float>(rest) * 5.9604644775390625e-8f;
    return Scalar<float>::from_bits(Scalar<float>::bits(small) | sign);
  }
  const uint32_t rebias = rest >= 0x7C00u ? (255u - 31u) << 23 : (127u - 15u) << 23;
  return Scalar<float>::from_bits(sign | ((rest << 13) + rebias));
#endif
}

LD_FN void store(float value, float& to) { to = value; }
LD_FN void store(double value, double& to) { to = value; }
LD_FN void store(float value, Bfloat& to) {  // round to nearest, ties to even
  const uint32_t bits = Scalar<float>::bits(value);
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  to.bits = nan ? 0x7FC0u : static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
LD_FN void store(float value, Half& to) {  // round to nearest, ties to even
#if defined(__CUDA_ARCH__)
  to.bits = __half_as_ushort(__float2half_rn(value));
#else
  const uint32_t bits = Scalar<float>::bits(value), sign = (bits >> 16) & 0x8000u, rest = bits & 0x7FFFFFFFu;
  uint32_t half;
  if (rest > 0x7F800000u) {
    half = 0x7E00u;  // NaN
  } else if (rest >= 0x477FF000u) {
    half = 0x7C00u;                 // 65520 and more round to infinity
  } else if (rest < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the rounded subnormal in the low bits
    half = Scalar<float>::bits(Scalar<float>::from_bits(rest) + 0.5f) - 0x3F000000u;
  } else {
    half = (rest - ((127u - 15u) << 23) + 0x0FFFu + ((rest >> 13) & 1u)) >> 13;
  }
  to.bits = static_cast<uint16_t>(half | sign);
#endif
}

}  // namespace latentdiff
