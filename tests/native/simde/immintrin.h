// Stands before the compiler's own header, so that the AVX-512 kernels run on a processor without it: SIMDe computes
// the 512-bit operations in AVX2 and FMA. Below are the few that SIMDe 0.7 lacks, after Intel's description.
#pragma once

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

namespace emulated {

template <class Function>
inline __m512i integers(const Function& f) {
  simde__m512i_private r;
  for (int i = 0; i < 16; ++i) r.i32[i] = f(i);
  return simde__m512i_from_private(r);
}

template <class Function>
inline __m512 floats(const Function& f) {
  simde__m512_private r;
  for (int i = 0; i < 16; ++i) r.f32[i] = f(i);
  return simde__m512_from_private(r);
}

inline __m512 cvtepi32_ps(__m512i a) {
  const auto p = simde__m512i_to_private(a);
  return floats([&](int i) { return static_cast<float>(p.i32[i]); });
}
inline __m512i cvtepu16_epi32(__m256i a) {
  const auto p = simde__m256i_to_private(a);
  return integers([&](int i) { return static_cast<int>(p.u16[i]); });
}
inline __m256i cvtepi32_epi16(__m512i a) {
  const auto p = simde__m512i_to_private(a);
  simde__m256i_private r;
  for (int i = 0; i < 16; ++i) r.u16[i] = static_cast<unsigned short>(p.u32[i]);
  return simde__m256i_from_private(r);
}
inline __m512i srai_epi32(__m512i a, unsigned n) {
  const auto p = simde__m512i_to_private(a);
  return integers([&](int i) { return p.i32[i] >> n; });
}
inline __m512 shuffle_f32x4(__m512 a, __m512 b, int choice) {
  const auto p = simde__m512_to_private(a), q = simde__m512_to_private(b);
  return floats([&](int i) {
    const int part = choice >> (i / 4 * 2) & 3;  // 128 bits each: two of a, then two of b
    return (i < 8 ? p : q).f32[4 * part + i % 4];
  });
}
inline __m512 cvtph_ps(__m256i a) {
  simde__m512_private r;
  r.m256_private[0] = simde__m256_to_private(_mm256_cvtph_ps(_mm256_castsi256_si128(a)));
  r.m256_private[1] = simde__m256_to_private(_mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)));
  return simde__m512_from_private(r);
}
template <int rounding>
inline __m256i cvtps_ph(__m512 a) {
  const auto p = simde__m512_to_private(a);
  const __m128i low = _mm256_cvtps_ph(simde__m256_from_private(p.m256_private[0]), rounding);
  const __m128i high = _mm256_cvtps_ph(simde__m256_from_private(p.m256_private[1]), rounding);
  return _mm256_set_m128i(high, low);
}

}  // namespace emulated

#define _mm512_cvtepi32_ps(a) emulated::cvtepi32_ps(a)
#define _mm512_cvtepu16_epi32(a) emulated::cvtepu16_epi32(a)
#define _mm512_cvtepi32_epi16(a) emulated::cvtepi32_epi16(a)
#define _mm512_srai_epi32(a, n) emulated::srai_epi32(a, n)
#define _mm512_shuffle_f32x4(a, b, choice) emulated::shuffle_f32x4(a, b, choice)
#define _mm512_cvtph_ps(a) emulated::cvtph_ps(a)
#define _mm512_cvtps_ph(a, rounding) emulated::cvtps_ph<rounding>(a)
