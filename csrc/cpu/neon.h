// Four lanes of number.h's number type in NEON, which every 64-bit ARM processor has.
#pragma once

#include <arm_neon.h>

#include "../dtype.h"

namespace latentdiff {
namespace {

struct Neon {
  using F = float32x4_t;
  using U = uint32x4_t;
  using Q = uint32x4_t;
  static constexpr int lanes = 4;

  static LD_FN F set(float a) { return vdupq_n_f32(a); }
  static LD_FN U set_bits(uint32_t a) { return vdupq_n_u32(a); }
  static LD_FN Q widen(U a) { return a; }
  static LD_FN U narrow(Q a) { return a; }

  static LD_FN F mul(F a, F b) { return vmulq_f32(a, b); }
  static LD_FN F add(F a, F b) { return vaddq_f32(a, b); }
  static LD_FN F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static LD_FN F sqrt(F a) { return vsqrtq_f32(a); }
  static LD_FN F to_float(U a) { return vcvtq_f32_s32(vreinterpretq_s32_u32(a)); }
  static LD_FN U bits(F a) { return vreinterpretq_u32_f32(a); }
  static LD_FN F from_bits(U a) { return vreinterpretq_f32_u32(a); }

  static LD_FN void multiply(Q a, Q b, Q& high, Q& low) {
    const U first = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a), vget_low_u32(b)));
    const U second = vreinterpretq_u32_u64(vmull_high_u32(a, b));
    low = vuzp1q_u32(first, second);
    high = vuzp2q_u32(first, second);
  }
  static LD_FN Q xor3(Q a, Q b, Q c) { return veorq_u32(veorq_u32(b, c), a); }
  static LD_FN Q advance(Q a, Q b) { return vaddq_u32(a, b); }

  static LD_FN U plus(U a, U b) { return vaddq_u32(a, b); }
  static LD_FN U minus(U a, U b) { return vsubq_u32(a, b); }
  template <int n>
  static LD_FN U shift_left(U a) {
    return vshlq_n_u32(a, n);
  }
  template <int n>
  static LD_FN U shift_right(U a) {
    return vshrq_n_u32(a, n);
  }
  template <int n>
  static LD_FN U shift_right_signed(U a) {
    return vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), n));
  }
  static LD_FN F choose(U q, F a, F b) { return vbslq_f32(vtstq_u32(q, set_bits(1u)), a, b); }
  static LD_FN F flip(U q, F a) {
    return from_bits(veorq_u32(bits(a), vshlq_n_u32(vandq_u32(q, set_bits(2u)), 30)));
  }
  // A comparison with NaN is false, so NaN stays.
  static LD_FN F clamp(F a, F bound) {
    const F low = vnegq_f32(bound);
    return vbslq_f32(vcltq_f32(a, low), low, vbslq_f32(vcgtq_f32(a, bound), bound, a));
  }
  // The mask belongs to the coefficient: a compiler makes it once, outside the loop over elements.
  static LD_FN F keep(F coefficient, F a) {
    const U zero = vceqq_f32(coefficient, set(0.0f));
    return from_bits(vandq_u32(bits(a), vornq_u32(set_bits(0x80000000u), zero)));
  }

  static LD_FN F read(const float* from) { return vld1q_f32(from); }
  static LD_FN F read(const Half* from) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(from))));
  }
  static LD_FN F read(const Bfloat* from) {
    return from_bits(vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t*>(from)), 16));
  }
  static LD_FN void write(F a, float* to) { vst1q_f32(to, a); }
  static LD_FN void write(F a, Half* to) {
    vst1_u16(reinterpret_cast<uint16_t*>(to), vreinterpret_u16_f16(vcvt_f16_f32(a)));
  }
  static LD_FN void write(F a, Bfloat* to) {
    const U bits_of = bits(a), odd = vandq_u32(shift_right<16>(bits_of), set_bits(1u));
    const U rounded = shift_right<16>(plus(plus(bits_of, set_bits(0x7FFFu)), odd));
    const U low = vbslq_u32(vceqq_f32(a, a), rounded, set_bits(0x7FC0u));
    vst1_u16(reinterpret_cast<uint16_t*>(to), vmovn_u32(low));
  }

  static LD_FN U iota() {
    static constexpr uint32_t numbers[4] = {0, 1, 2, 3};
    return vld1q_u32(numbers);
  }
  static LD_FN U read_bits(const uint32_t* from) { return vld1q_u32(from); }
  // to[4 j + i] = z[i] of lane j.
  static LD_FN void write_blocks(const F (&z)[4], float* to) {
    vst4q_f32(to, (float32x4x4_t{{z[0], z[1], z[2], z[3]}}));
  }
};

}  // namespace
}  // namespace latentdiff
