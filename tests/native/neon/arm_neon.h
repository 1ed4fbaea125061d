// The intrinsics of csrc/cpu/neon.h as standard C++, after Arm's description, so that these kernels run on
// any processor: a register is an array, an instruction a loop over its lanes.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated_neon {

template <class T, int n>
struct Lanes {
  T at[n];
};

template <int n, class Function>
inline auto each(const Function& f) {
  Lanes<decltype(f(0)), n> r;
  for (int i = 0; i < n; ++i) r.at[i] = f(i);
  return r;
}

template <class To, class From>
inline To same_bits(From a) {
  static_assert(sizeof(To) == sizeof(From), "expected a register of the same size");
  To r;
  std::memcpy(&r, &a, sizeof(r));
  return r;
}

inline uint32_t word(float a) { return same_bits<uint32_t>(a); }

}  // namespace emulated_neon

using float32x4_t = emulated_neon::Lanes<float, 4>;
using uint32x4_t = emulated_neon::Lanes<uint32_t, 4>;
using int32x4_t = emulated_neon::Lanes<int32_t, 4>;
using uint64x2_t = emulated_neon::Lanes<uint64_t, 2>;
using uint32x2_t = emulated_neon::Lanes<uint32_t, 2>;
using uint16x4_t = emulated_neon::Lanes<uint16_t, 4>;
struct float16x4_t {
  uint16_t at[4];
};
struct float32x4x4_t {
  float32x4_t val[4];
};

#define LANES(n, expression) emulated_neon::each<n>([&](int i) { return expression; })
#define TRUTH(expression) LANES(4, (expression) ? 0xFFFFFFFFu : 0u)

inline float32x4_t vdupq_n_f32(float a) { return LANES(4, (void(i), a)); }
inline uint32x4_t vdupq_n_u32(uint32_t a) { return LANES(4, (void(i), a)); }

inline float32x4_t vmulq_f32(float32x4_t a, float32x4_t b) { return LANES(4, a.at[i] * b.at[i]); }
inline float32x4_t vaddq_f32(float32x4_t a, float32x4_t b) { return LANES(4, a.at[i] + b.at[i]); }
inline float32x4_t vfmaq_f32(float32x4_t c, float32x4_t a, float32x4_t b) {
  return LANES(4, std::fma(a.at[i], b.at[i], c.at[i]));
}
inline float32x4_t vsqrtq_f32(float32x4_t a) { return LANES(4, std::sqrt(a.at[i])); }
inline float32x4_t vnegq_f32(float32x4_t a) { return LANES(4, -a.at[i]); }
inline float32x4_t vcvtq_f32_s32(int32x4_t a) { return LANES(4, static_cast<float>(a.at[i])); }

inline uint32x4_t vcltq_f32(float32x4_t a, float32x4_t b) { return TRUTH(a.at[i] < b.at[i]); }
inline uint32x4_t vcgtq_f32(float32x4_t a, float32x4_t b) { return TRUTH(a.at[i] > b.at[i]); }
inline uint32x4_t vceqq_f32(float32x4_t a, float32x4_t b) { return TRUTH(a.at[i] == b.at[i]); }
inline uint32x4_t vtstq_u32(uint32x4_t a, uint32x4_t b) { return TRUTH((a.at[i] & b.at[i]) != 0); }

inline uint32x4_t vaddq_u32(uint32x4_t a, uint32x4_t b) { return LANES(4, a.at[i] + b.at[i]); }
inline uint32x4_t vsubq_u32(uint32x4_t a, uint32x4_t b) { return LANES(4, a.at[i] - b.at[i]); }
inline uint32x4_t veorq_u32(uint32x4_t a, uint32x4_t b) { return LANES(4, a.at[i] ^ b.at[i]); }
inline uint32x4_t vandq_u32(uint32x4_t a, uint32x4_t b) { return LANES(4, a.at[i] & b.at[i]); }
inline uint32x4_t vornq_u32(uint32x4_t a, uint32x4_t b) { return LANES(4, a.at[i] | ~b.at[i]); }
inline uint32x4_t vshlq_n_u32(uint32x4_t a, int n) { return LANES(4, a.at[i] << n); }
inline uint32x4_t vshrq_n_u32(uint32x4_t a, int n) { return LANES(4, a.at[i] >> n); }
inline int32x4_t vshrq_n_s32(int32x4_t a, int n) { return LANES(4, a.at[i] >> n); }
inline uint32x4_t vbslq_u32(uint32x4_t q, uint32x4_t a, uint32x4_t b) {
  return LANES(4, (q.at[i] & a.at[i]) | (~q.at[i] & b.at[i]));
}
inline float32x4_t vbslq_f32(uint32x4_t q, float32x4_t a, float32x4_t b) {
  using emulated_neon::same_bits;
  return same_bits<float32x4_t>(vbslq_u32(q, same_bits<uint32x4_t>(a), same_bits<uint32x4_t>(b)));
}

inline uint32x2_t vget_low_u32(uint32x4_t a) { return LANES(2, a.at[i]); }
inline uint64x2_t vmull_u32(uint32x2_t a, uint32x2_t b) {
  return LANES(2, static_cast<uint64_t>(a.at[i]) * b.at[i]);
}
inline uint64x2_t vmull_high_u32(uint32x4_t a, uint32x4_t b) {
  return LANES(2, static_cast<uint64_t>(a.at[2 + i]) * b.at[2 + i]);
}
inline uint32x4_t vuzp1q_u32(uint32x4_t a, uint32x4_t b) { return LANES(4, (i < 2 ? a : b).at[i % 2 * 2]); }
inline uint32x4_t vuzp2q_u32(uint32x4_t a, uint32x4_t b) {
  return LANES(4, (i < 2 ? a : b).at[i % 2 * 2 + 1]);
}

inline uint32x4_t vreinterpretq_u32_f32(float32x4_t a) { return emulated_neon::same_bits<uint32x4_t>(a); }
inline float32x4_t vreinterpretq_f32_u32(uint32x4_t a) { return emulated_neon::same_bits<float32x4_t>(a); }
inline int32x4_t vreinterpretq_s32_u32(uint32x4_t a) { return emulated_neon::same_bits<int32x4_t>(a); }
inline uint32x4_t vreinterpretq_u32_s32(int32x4_t a) { return emulated_neon::same_bits<uint32x4_t>(a); }
inline uint32x4_t vreinterpretq_u32_u64(uint64x2_t a) { return emulated_neon::same_bits<uint32x4_t>(a); }
inline float16x4_t vreinterpret_f16_u16(uint16x4_t a) { return emulated_neon::same_bits<float16x4_t>(a); }
inline uint16x4_t vreinterpret_u16_f16(float16x4_t a) { return emulated_neon::same_bits<uint16x4_t>(a); }

// The conversions of float16 by the compiler's own type: one rounding, NaN stays a quiet NaN.
inline float32x4_t vcvt_f32_f16(float16x4_t a) {
  return LANES(4, static_cast<float>(emulated_neon::same_bits<_Float16>(a.at[i])));
}
inline float16x4_t vcvt_f16_f32(float32x4_t a) {
  const auto r = LANES(4, emulated_neon::same_bits<uint16_t>(static_cast<_Float16>(a.at[i])));
  return emulated_neon::same_bits<float16x4_t>(r);
}
inline uint32x4_t vshll_n_u16(uint16x4_t a, int n) { return LANES(4, static_cast<uint32_t>(a.at[i]) << n); }
inline uint16x4_t vmovn_u32(uint32x4_t a) { return LANES(4, static_cast<uint16_t>(a.at[i])); }

inline float32x4_t vld1q_f32(const float* from) { return LANES(4, from[i]); }
inline uint32x4_t vld1q_u32(const uint32_t* from) { return LANES(4, from[i]); }
inline uint16x4_t vld1_u16(const uint16_t* from) { return LANES(4, from[i]); }
inline void vst1q_f32(float* to, float32x4_t a) { std::memcpy(to, a.at, sizeof(a.at)); }
inline void vst1_u16(uint16_t* to, uint16x4_t a) { std::memcpy(to, a.at, sizeof(a.at)); }
inline void vst4q_f32(float* to, float32x4x4_t a) {
  for (int i = 0; i < 16; ++i) to[i] = a.val[i % 4].at[i / 4];
}

#undef LANES
#undef TRUTH
