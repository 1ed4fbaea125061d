// Arithmetic with one fixed rounding per operation, on the host and on the device.
//
// Every operation that kernels use is named here, so that neither a compiler's contraction (a * b + c -> fma)
// nor a library's own logf or cosf can make two implementations differ. Includes no torch header, and no
// standard one with code: the SIMD files compile under wider instruction sets, and an inline function they
// emitted could be linked into code that runs on older processors.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define LD_FN __host__ __device__ __forceinline__
#define LD_UNROLL _Pragma("unroll")
#define LD_NO_UNROLL _Pragma("unroll 1")
#else
#define LD_FN inline __attribute__((always_inline))
#define LD_UNROLL  // a host compiler decides better
#define LD_NO_UNROLL
#endif

namespace latentdiff {

// What the shared mathematics needs of a number type, here of one lane. Neon, Avx2 and Avx512 have 4, 8 and
// 16 lanes.
//   F  float lanes      U  32-bit integer lanes      Q  32-bit words on their way through Philox
template <class Float>
struct Scalar;

template <>
struct Scalar<float> {
  using F = float;
  using U = uint32_t;
  using Q = uint32_t;
  static constexpr int lanes = 1;

  static LD_FN F set(float a) { return a; }
  static LD_FN U set_bits(uint32_t a) { return a; }
  static LD_FN Q widen(U a) { return a; }
  static LD_FN U narrow(Q a) { return a; }

#if defined(__CUDA_ARCH__)
  static LD_FN F mul(F a, F b) { return __fmul_rn(a, b); }
  static LD_FN F add(F a, F b) { return __fadd_rn(a, b); }
  static LD_FN F fma(F a, F b, F c) { return __fmaf_rn(a, b, c); }
  static LD_FN F sqrt(F a) { return __fsqrt_rn(a); }
  static LD_FN F div(F a, F b) { return __fdiv_rn(a, b); }
  static LD_FN F to_float(U a) { return __int2float_rn(static_cast<int>(a)); }
  static LD_FN U bits(F a) { return __float_as_uint(a); }
  static LD_FN F from_bits(U a) { return __uint_as_float(a); }
  static LD_FN void multiply(Q a, Q b, Q& high, Q& low) {
    high = __umulhi(a, b);
    low = a * b;
  }
#else
  static LD_FN F mul(F a, F b) { return a * b; }
  static LD_FN F add(F a, F b) { return a + b; }
  static LD_FN F fma(F a, F b, F c) { return __builtin_fmaf(a, b, c); }
  static LD_FN F sqrt(F a) { return __builtin_sqrtf(a); }
  static LD_FN F div(F a, F b) { return a / b; }
  static LD_FN F to_float(U a) { return static_cast<float>(static_cast<int32_t>(a)); }
  static LD_FN U bits(F a) {
    U u;
    __builtin_memcpy(&u, &a, 4);
    return u;
  }
  static LD_FN F from_bits(U a) {
    F f;
    __builtin_memcpy(&f, &a, 4);
    return f;
  }
  static LD_FN void multiply(Q a, Q b, Q& high, Q& low) {
    const uint64_t product = static_cast<uint64_t>(a) * b;
    high = static_cast<uint32_t>(product >> 32);
    low = static_cast<uint32_t>(product);
  }
#endif

  static LD_FN Q xor3(Q a, Q b, Q c) { return a ^ b ^ c; }
  static LD_FN U plus(U a, U b) { return a + b; }
  static LD_FN Q advance(Q a, Q b) { return a + b; }
  static LD_FN U minus(U a, U b) { return a - b; }
  template <int n>
  static LD_FN U shift_left(U a) {
    return a << n;
  }
  template <int n>
  static LD_FN U shift_right(U a) {
    return a >> n;
  }
  template <int n>
  static LD_FN U shift_right_signed(U a) {
    return static_cast<U>(static_cast<int32_t>(a) >> n);
  }
  // Bit 0 of q chooses a, else b.
  static LD_FN F choose(U q, F a, F b) { return (q & 1u) ? a : b; }
  // Bit 1 of q changes the sign of a.
  static LD_FN F flip(U q, F a) { return from_bits(bits(a) ^ ((q & 2u) << 30)); }
  // NaN stays NaN.
  static LD_FN F clamp(F a, F bound) { return a < -bound ? -bound : (a > bound ? bound : a); }
  // a, or a zero of its sign where the coefficient is 0.
  static LD_FN F keep(F coefficient, F a) {
    return from_bits(bits(a) &
                     (0x80000000u | (0u - static_cast<U>(coefficient != 0))));  // a choice takes registers
  }
};

// float64 samples: plain products and sums (two roundings), as PyTorch computes them on every device.
template <>
struct Scalar<double> {
  using F = double;
  static constexpr int lanes = 1;
  static LD_FN F set(double a) { return a; }
#if defined(__CUDA_ARCH__)
  static LD_FN F mul(F a, F b) { return __dmul_rn(a, b); }
  static LD_FN F fma(F a, F b, F c) { return __dadd_rn(__dmul_rn(a, b), c); }
  static LD_FN F keep(F coefficient, F a) { return coefficient == 0 ? copysign(0.0, a) : a; }
#else
  static LD_FN F mul(F a, F b) { return a * b; }
  static LD_FN F fma(F a, F b, F c) { return a * b + c; }  // never contracted: -ffp-contract=off
  static LD_FN F keep(F coefficient, F a) { return coefficient == 0 ? __builtin_copysign(0.0, a) : a; }
#endif
  static LD_FN F clamp(F a, F bound) { return a < -bound ? -bound : (a > bound ? bound : a); }
};

}  // namespace latentdiff
